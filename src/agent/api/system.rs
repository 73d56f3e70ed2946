//! Paths about the node itself: health, settings, pods, the machine's logs.

use std::path::{Component, Path, PathBuf};

use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use super::{Body, Refusal, answer};
use crate::agent::context::Context;
use crate::agent::labels;
use crate::agent::spec::container_id;
use crate::api::go_duration;
use crate::runtime::spec::{ContainerState, SandboxStatus};

/// What `/logs/` shows.
const LOGS: &str = "/var/log";

/// `/pods`: the pods as this node knows them.
pub(super) fn pods(context: &Context) -> Response<Body> {
    pod_list(context.pods.all().iter().map(|pod| json!(**pod)).collect())
}

/// `/runningpods/`: what runs, whatever the API says.
pub(super) async fn running_pods(context: &Context) -> Response<Body> {
    let sandboxes = context.runtime.sandboxes().await;
    pod_list(sandboxes.iter().filter(|s| s.ready).map(running_pod).collect())
}

fn pod_list(pods: Vec<Value>) -> Response<Body> {
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods});
    answer(StatusCode::OK, "application/json", list.to_string())
}

/// A sandbox as a pod: names, and containers that run.
fn running_pod(sandbox: &SandboxStatus) -> Value {
    let label = |key: &str| sandbox.labels.get(key).cloned().unwrap_or_default();
    let running = sandbox.containers.iter().filter(|c| c.state == ContainerState::Running);
    let named: Vec<(String, &str, &str)> = running
        .map(|c| {
            let label = |key: &str| c.labels.get(key).map_or("", String::as_str);
            (container_id(&c.id), label(labels::CONTAINER_NAME), label(labels::IMAGE))
        })
        .collect();
    let containers: Vec<Value> =
        named.iter().map(|(_, name, image)| json!({"name": name, "image": image, "resources": {}})).collect();
    let statuses: Vec<Value> = named
        .iter()
        .map(|(id, name, image)| {
            json!({"name": name, "image": image, "imageID": "", "containerID": id, "ready": false,
                "restartCount": 0, "state": {"running": {}}, "lastState": {}})
        })
        .collect();
    json!({
        "metadata": {
            "name": label(labels::POD_NAME),
            "namespace": label(labels::POD_NAMESPACE),
            "uid": label(labels::POD_UID),
        },
        "spec": {"containers": containers},
        "status": {"containerStatuses": statuses},
    })
}

/// `/configz`: the settings that have a field in kubelet's configuration.
pub(super) fn configz(context: &Context) -> Response<Body> {
    let settings = &context.settings;
    let kubelet = &settings.kubelet;
    let config = json!({"kubeletconfig": {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "staticPodPath": kubelet.pod_manifest_path,
        "port": settings.node_api_port,
        "authentication": {"x509": {}, "webhook": {"enabled": true, "cacheTTL": "2m0s"}, "anonymous": {"enabled": false}},
        "authorization": {"mode": "Webhook", "webhook": {"cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s"}},
        "clusterDomain": settings.cluster_domain,
        "clusterDNS": [settings.cluster_dns.to_string()],
        "maxPods": settings.max_pods,
        "podPidsLimit": kubelet.pod_pids_limit.unwrap_or(-1),
        "containerLogMaxSize": kubelet.container_log_max_size.to_string(),
        "containerLogMaxFiles": kubelet.container_log_max_files,
        "serializeImagePulls": kubelet.serialize_image_pulls,
        "maxParallelImagePulls": kubelet.max_parallel_image_pulls,
        "imageGCHighThresholdPercent": kubelet.image_gc_high_threshold,
        "imageGCLowThresholdPercent": kubelet.image_gc_low_threshold,
        "imageMinimumGCAge": go_duration(kubelet.minimum_image_ttl),
        "imageMaximumGCAge": go_duration(kubelet.maximum_image_ttl.unwrap_or_default()),
        "allowedUnsafeSysctls": kubelet.allowed_unsafe_sysctls,
        "seccompDefault": kubelet.seccomp_default,
        "systemReserved": kubelet.system_reserved,
        "kubeReserved": kubelet.kube_reserved,
        "streamingConnectionIdleTimeout": go_duration(kubelet.streaming_connection_idle_timeout.unwrap_or_default()),
        "nodeLeaseDurationSeconds": 40,
        "cgroupDriver": "cgroupfs",
        "enableServer": true,
        "enableDebuggingHandlers": true,
        "enableSystemLogHandler": true,
        "failSwapOn": false,
    }});
    answer(StatusCode::OK, "application/json", config.to_string())
}

/// `/logs/…`: files and directories below `/var/log`.
pub(super) async fn logs(path: &str) -> Result<Response<Body>, Refusal> {
    serve_below(Path::new(LOGS), path.strip_prefix("/logs").unwrap_or_default()).await
}

async fn serve_below(root: &Path, path: &str) -> Result<Response<Body>, Refusal> {
    let missing = || Refusal::not_found("404 page not found\n");
    let wanted = below(root, path).ok_or_else(missing)?;
    let metadata = tokio::fs::metadata(&wanted).await.map_err(|_| missing())?;
    if metadata.is_dir() {
        if !path.ends_with('/') {
            let mut response = answer(StatusCode::MOVED_PERMANENTLY, "text/html; charset=utf-8", "");
            let name = wanted.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Ok(location) = http::HeaderValue::from_str(&format!("{name}/")) {
                response.headers_mut().insert(http::header::LOCATION, location);
            }
            return Ok(response);
        }
        return listing(&wanted).await;
    }
    // A pipe or a device would never end.
    if !metadata.is_file() {
        return Err(missing());
    }
    let file = tokio::fs::File::open(&wanted).await.map_err(|_| missing())?;
    let frames = futures::StreamExt::map(ReaderStream::new(file), |piece| piece.map(Frame::data));
    let mut response = Response::new(StreamBody::new(frames).boxed());
    let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, text);
    Ok(response)
}

/// The path below `root`; `None` if it leads out of it by `..`.
fn below(root: &Path, path: &str) -> Option<PathBuf> {
    let decoded = percent_decoded(path);
    let mut wanted = root.to_path_buf();
    for part in Path::new(decoded.trim_start_matches('/')).components() {
        match part {
            Component::Normal(name) => wanted.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(wanted)
}

fn percent_decoded(path: &str) -> String {
    // In a path a plus is a plus.
    super::target::decode(&path.replace('+', "%2B"))
}

async fn listing(directory: &Path) -> Result<Response<Body>, Refusal> {
    let failed = |e: std::io::Error| Refusal::internal(format!("{}: {e}", directory.display()));
    let mut entries = tokio::fs::read_dir(directory).await.map_err(failed)?;
    let mut names = Vec::new();
    while let Some(entry) = entries.next_entry().await.map_err(failed)? {
        let slash = if entry.file_type().await.is_ok_and(|t| t.is_dir()) { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    let escape =
        |t: &str| t.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;");
    let lines: String = names
        .iter()
        .map(|n| {
            let link = n.replace('%', "%25").replace('?', "%3F").replace('#', "%23").replace(' ', "%20");
            format!("<a href=\"{}\">{}</a>\n", escape(&link), escape(n))
        })
        .collect();
    Ok(answer(StatusCode::OK, "text/html; charset=utf-8", format!("<pre>\n{lines}</pre>\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_logs() {
        let below = |path: &str| below(Path::new("/var/log"), path);
        assert_eq!(below("/pods/a%20b+c/0.log"), Some("/var/log/pods/a b+c/0.log".into()));
        assert_eq!(below("/"), Some("/var/log".into()));
        for wrong in ["/../shadow", "/a/../../b", "/%2e%2e/b", "/a/%2E%2e/b"] {
            assert_eq!(below(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn directories_are_listed_and_files_sent() {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(root.path().join("d")).expect("made");
        std::fs::write(root.path().join("a&b"), "text").expect("written");
        let text = async |path: &str| {
            let response = serve_below(root.path(), path).await.expect("served");
            let (status, body) = (response.status(), response.into_body());
            (
                status,
                String::from_utf8(body.collect().await.expect("read").to_bytes().to_vec()).expect("text"),
            )
        };
        let list = "<pre>\n<a href=\"a&amp;b\">a&amp;b</a>\n<a href=\"d/\">d/</a>\n</pre>\n";
        assert_eq!(text("/").await, (StatusCode::OK, list.to_owned()));
        assert_eq!(text("/a&b").await, (StatusCode::OK, "text".to_owned()));
        assert_eq!(text("/d").await.0, StatusCode::MOVED_PERMANENTLY);
        assert!(serve_below(root.path(), "/none").await.is_err());
    }
}
