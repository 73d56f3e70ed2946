//! Container logs: `/containerLogs`.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateWaiting, ContainerStatus, Pod};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::follow::Follow;
use super::target::{Query, observe};
use super::{Body, Refusal};
use crate::agent::context::Context;
use crate::agent::logs as disk;
use crate::agent::spec::find_container;
use crate::runtime::spec::ContainerState as Runs;

/// Which part of a log is wanted, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Go on with what is written later.
    pub follow: bool,
    /// Of the attempt before.
    pub previous: bool,
    /// With the time of each line.
    pub timestamps: bool,
    /// The last lines only.
    pub tail: Option<usize>,
    /// Lines from then on.
    pub since: Option<Timestamp>,
    /// At most so many bytes.
    pub limit: Option<usize>,
    /// `stdout` or `stderr` alone.
    pub stream: Option<&'static str>,
}

impl Options {
    fn parse(query: &Query, now: Timestamp) -> Result<Self, Refusal> {
        let number = |name: &str, least: i64| -> Result<Option<i64>, Refusal> {
            let Some(text) = query.get(name).filter(|t| !t.is_empty()) else { return Ok(None) };
            match text.parse::<i64>() {
                Ok(n) if n >= least => Ok(Some(n)),
                _ => Err(Refusal::bad_request(format!(
                    "{name}: invalid value {text:?}: must be at least {least}"
                ))),
            }
        };
        let size = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
        let since = match (number("sinceSeconds", 1)?, query.get("sinceTime").filter(|t| !t.is_empty())) {
            (Some(_), Some(_)) => {
                return Err(Refusal::bad_request(
                    "at most one of `sinceTime` or `sinceSeconds` may be specified",
                ));
            }
            // Longer than time can be told: all there is.
            (Some(seconds), None) => now.checked_sub(SignedDuration::from_secs(seconds)).ok(),
            (None, Some(time)) => {
                let wrong = |_| Refusal::bad_request(format!("sinceTime: invalid value {time:?}"));
                Some(time.parse().map_err(wrong)?)
            }
            (None, None) => None,
        };
        let stream = match query.get("stream").filter(|t| !t.is_empty()) {
            None | Some("All") => None,
            Some("Stdout") => Some("stdout"),
            Some("Stderr") => Some("stderr"),
            Some(other) => return Err(Refusal::bad_request(format!("stream: invalid value {other:?}"))),
        };
        Ok(Self {
            follow: query.flag(&["follow"]),
            previous: query.flag(&["previous"]),
            timestamps: query.flag(&["timestamps"]),
            tail: number("tailLines", 0)?.map(size),
            since,
            limit: number("limitBytes", 1)?.map(size),
            stream,
        })
    }
}

/// Answers with a container's log.
pub(super) async fn serve(
    context: &Arc<Context>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let options = Options::parse(query, Timestamp::now())?;
    let found = context.pods.find(namespace, pod, None);
    let found = found.ok_or_else(|| Refusal::not_found(format!("pod \"{pod}\" not found")))?;
    known_container(&found, container)?;
    let (path, running) = locate(context, &found, container, options.previous).await?;
    let (sender, receiver) = mpsc::channel(16);
    let runtime = context.runtime.clone();
    // It ends when all is sent or the client is gone.
    tokio::spawn(async move {
        let ended = async {
            if let Some(id) = running {
                let _ = runtime.wait_container(&id).await;
            }
        };
        let follow = Follow { path: &path, options: &options };
        if let Err(error) = follow.send(&sender, ended).await {
            tracing::debug!(%error, path = %path.display(), "node API: a log could not be read to its end");
        }
    });
    let stream = futures::StreamExt::map(ReceiverStream::new(receiver), |data: Bytes| Ok(Frame::data(data)));
    let mut response = Response::new(StreamBody::new(stream).boxed());
    *response.status_mut() = StatusCode::OK;
    let text = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, text);
    Ok(response)
}

fn known_container(pod: &Pod, container: &str) -> Result<(), Refusal> {
    let spec = pod.spec.clone().unwrap_or_default();
    let ephemeral = spec.ephemeral_containers.iter().flatten().any(|c| c.name == container);
    if find_container(&spec, container).is_some() || ephemeral {
        return Ok(());
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Err(Refusal::not_found(format!("container \"{container}\" not found in pod \"{name}\"")))
}

/// The log's path, and the container's id while it runs.
async fn locate(
    context: &Context,
    pod: &Pod,
    container: &str,
    previous: bool,
) -> Result<(PathBuf, Option<String>), Refusal> {
    let observed = observe(context, pod).await;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if previous {
        // A crashed container that waits to be started again is the one before the next.
        let newest = observed.newest(container).filter(|c| c.state == Runs::Exited);
        let newest = newest.filter(|_| waiting(pod, container).is_some());
        let last = observed.previous(container).or(newest).map(|c| c.log_path.clone());
        let last = last.or_else(|| left_behind(context, pod, container, true)).ok_or_else(|| {
            Refusal::bad_request(format!(
                "previous terminated container \"{container}\" in pod \"{name}\" not found"
            ))
        })?;
        return Ok((last, None));
    }
    match observed.newest(container) {
        Some(status) if status.state != Runs::Created => {
            let running = (status.state == Runs::Running).then(|| status.id.clone());
            Ok((status.log_path.clone(), running))
        }
        _ => left_behind(context, pod, container, false)
            .map(|path| (path, None))
            .ok_or_else(|| Refusal::bad_request(why_not(pod, container))),
    }
}

/// The log of a container that is gone with its sandbox, after a reboot maybe, as far as the API's status tells of
/// it: of the one before the present one, or of one that ended.
fn left_behind(context: &Context, pod: &Pod, container: &str, previous: bool) -> Option<PathBuf> {
    let status = status_of(pod, container)?;
    let directory = context.paths.pod_logs(pod).join(container);
    let ended = |state: &Option<ContainerState>| state.as_ref().is_some_and(|s| s.terminated.is_some());
    if previous {
        let before = u32::try_from(status.restart_count).ok()?;
        let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
        return ended(&status.last_state)
            .then(|| disk::newest(&directory, running.then_some(before)))
            .flatten();
    }
    ended(&status.state).then(|| disk::newest(&directory, None)).flatten()
}

/// What a container waits for, by the pod's status.
fn waiting<'p>(pod: &'p Pod, container: &str) -> Option<&'p ContainerStateWaiting> {
    status_of(pod, container)?.state.as_ref()?.waiting.as_ref()
}

fn status_of<'p>(pod: &'p Pod, container: &str) -> Option<&'p ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|c| c.name == container)
}

/// Why a container has no log, by the pod's status.
fn why_not(pod: &Pod, container: &str) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    match waiting(pod, container).and_then(|w| w.reason.as_deref()) {
        None => format!("container \"{container}\" in pod \"{name}\" is not available"),
        Some(reason) => {
            let why = match reason {
                "ErrImagePull" => "image can't be pulled",
                "ImagePullBackOff" => "trying and failing to pull image",
                other => other,
            };
            format!("container \"{container}\" in pod \"{name}\" is waiting to start: {why}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options_are_checked() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        let parse = |text: &str| Options::parse(&Query::parse(text), now);
        let options =
            parse("follow=true&tailLines=5&sinceSeconds=60&timestamps=1&limitBytes=9").expect("valid");
        let since = "2026-01-01T00:00:00Z".parse().expect("a time");
        let expected = Options {
            follow: true,
            previous: false,
            timestamps: true,
            tail: Some(5),
            since: Some(since),
            limit: Some(9),
            stream: None,
        };
        assert_eq!(options, expected);
        let all = parse("sinceSeconds=9223372036854775807").expect("valid");
        assert_eq!(all.since, None, "longer than time can be told");
        assert_eq!(parse("stream=Stderr").expect("valid").stream, Some("stderr"));
        for wrong in [
            "stream=x",
            "tailLines=-1",
            "limitBytes=0",
            "sinceSeconds=x",
            "sinceTime=x",
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn why_there_is_no_log() {
        let pod = |reason: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [
                {"name": "c", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason}}}]}}))
            .expect("a pod")
        };
        assert_eq!(
            why_not(&pod("ContainerCreating"), "c"),
            "container \"c\" in pod \"p\" is waiting to start: ContainerCreating"
        );
        assert_eq!(
            why_not(&pod("ImagePullBackOff"), "c"),
            "container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image"
        );
        assert_eq!(why_not(&pod("x"), "d"), "container \"d\" in pod \"p\" is not available");
    }
}
