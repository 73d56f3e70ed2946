//! What a stream asks for, as the options object that admission sees: `PodExecOptions` and its like.

use serde_json::{Value, json};

use crate::api::GroupVersionKind;
use crate::server::http::api::Cx;
use crate::server::http::params::Params;

/// The options of a request for a stream.
pub(super) fn of(cx: &Cx, subresource: &str, kind: &GroupVersionKind) -> Value {
    let path = cx.info.rest.as_deref();
    from_params(&cx.params, subresource, path, kind)
}

fn from_params(params: &Params, subresource: &str, path: Option<&str>, kind: &GroupVersionKind) -> Value {
    let mut options = json!({"kind": kind.kind, "apiVersion": kind.api_version()});
    match subresource {
        "proxy" => {
            if let Some(path) =
                path.map(|p| format!("/{p}")).or_else(|| params.get("path").map(str::to_owned))
            {
                options["path"] = json!(path);
            }
        }
        "portforward" => {
            let ports = params.all("ports").iter().flat_map(|list| list.split(','));
            let ports: Vec<i64> = ports.filter_map(|p| p.trim().parse().ok()).collect();
            if !ports.is_empty() {
                options["ports"] = json!(ports);
            }
        }
        _ => {
            for flag in ["stdin", "stdout", "stderr", "tty"] {
                if params.flag(flag) {
                    options[flag] = json!(true);
                }
            }
            if let Some(container) = params.get("container") {
                options["container"] = json!(container);
            }
            if subresource == "exec" && !params.all("command").is_empty() {
                options["command"] = json!(params.all("command"));
            }
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(query: &str, subresource: &str, kind: &'static str, path: Option<&str>) -> Value {
        let params = Params::parse(&format!("/x?{query}").parse().unwrap());
        from_params(&params, subresource, path, &GroupVersionKind::new("", "v1", kind))
    }

    #[test]
    fn queries_become_objects() {
        let exec =
            options("command=sh&command=-c&stdin=true&tty=1&container=c", "exec", "PodExecOptions", None);
        assert_eq!(
            exec,
            json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdin": true, "tty": true, "container": "c", "command": ["sh", "-c"]})
        );
        let attach = options("stdout=true&command=x", "attach", "PodAttachOptions", None);
        assert_eq!(attach, json!({"kind": "PodAttachOptions", "apiVersion": "v1", "stdout": true}));
        let forward = options("ports=80,81&ports=82", "portforward", "PodPortForwardOptions", None);
        assert_eq!(forward["ports"], json!([80, 81, 82]));
        assert_eq!(options("", "proxy", "PodProxyOptions", Some("a/b"))["path"], "/a/b");
    }
}
