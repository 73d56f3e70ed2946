//! Kubeconfig files: <https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::issue::Identity;

/// A kubeconfig with one cluster, user and context, all called `default`; JSON, which is YAML too,
/// is not what people expect to edit, so it is written as block YAML.
pub fn render(server_url: &str, ca_pem: &str, client: &Identity) -> String {
    let value = json!({
        "apiVersion": "v1",
        "clusters": [{
            "cluster": {"certificate-authority-data": STANDARD.encode(ca_pem), "server": server_url},
            "name": "default",
        }],
        "contexts": [{"context": {"cluster": "default", "user": "default"}, "name": "default"}],
        "current-context": "default",
        "kind": "Config",
        "preferences": {},
        "users": [{
            "name": "default",
            "user": {
                "client-certificate-data": STANDARD.encode(&client.cert_pem),
                "client-key-data": STANDARD.encode(&client.key_pem),
            },
        }],
    });
    serde_yaml::to_string(&value).expect("maps with string keys are always YAML")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_reads_back_as_kubes_client_reads_it() {
        let client = Identity { cert_pem: "cert".into(), key_pem: "key".into() };
        let text = render("https://127.0.0.1:6443", "ca", &client);
        let config = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("default"));
        let cluster = config.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://127.0.0.1:6443"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("Y2E="));
        let user = config.auth_infos[0].auth_info.as_ref().unwrap();
        assert_eq!(user.client_certificate_data.as_deref(), Some("Y2VydA=="));
    }
}
