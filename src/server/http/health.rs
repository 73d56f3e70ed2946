//! `/healthz`, `/livez`, `/readyz`: named checks, one line each with `?verbose`.

use http::{Response, StatusCode};

use super::api::Api;
use super::body::Body;
use super::params::Params;
use super::render;
use crate::supervisor::State;

/// A check's name, and what is wrong if something is.
pub(super) type Check = (String, Option<String>);

/// The tasks of this process: what is wrong with each.
pub(super) fn components(api: &Api) -> Vec<Check> {
    let health = api.supervisor.health().into_iter();
    health
        .map(|(name, state)| {
            let problem = match state {
                State::Running | State::Ended => None,
                State::BackingOff { error, restarts } => {
                    Some(format!("{error} (started again {restarts} times)"))
                }
                State::Failed(error) => Some(error),
            };
            (name, problem)
        })
        .collect()
}

fn checks(api: &Api, which: &str) -> Vec<Check> {
    let closed = api.objects.store.is_closed();
    let store = closed.then(|| "it is closed: nothing can be written".to_owned());
    // Upstream's name of the datastore, which monitoring asks for, whatever is behind it.
    let mut list: Vec<Check> = vec![("ping".into(), None), ("log".into(), None), ("etcd".into(), store)];
    if which != "livez" {
        list.extend(components(api));
    }
    if which == "readyz" {
        let stopping = api.supervisor.token(crate::supervisor::Stage::Listener).is_cancelled();
        list.push(("shutdown".into(), stopping.then(|| "the server is shutting down".into())));
    }
    list
}

/// Answers `/healthz`, `/livez`, `/readyz` and single checks below them.
pub(super) fn serve(api: &Api, path: &str, params: &Params) -> Option<Response<Body>> {
    let mut parts = path.trim_matches('/').splitn(2, '/');
    let which = parts.next().filter(|w| matches!(*w, "healthz" | "livez" | "readyz"))?;
    let all = checks(api, which);
    if let Some(one) = parts.next() {
        let (_, problem) = all.into_iter().find(|(name, _)| name == one)?;
        return Some(match problem {
            None => render::text(StatusCode::OK, "ok"),
            Some(problem) => {
                render::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {problem}\n"))
            }
        });
    }
    Some(report(which, &all, params.all("exclude"), params.has("verbose")))
}

fn report(which: &str, all: &[Check], excluded: &[String], verbose: bool) -> Response<Body> {
    let mut lines = String::new();
    let mut failed = false;
    for (name, problem) in all {
        let line = match problem {
            _ if excluded.contains(name) => format!("[+]{name} excluded: ok\n"),
            None => format!("[+]{name} ok\n"),
            // The reason is for the log: these paths are open to everyone.
            Some(problem) => {
                failed = true;
                tracing::info!(check = %name, %problem, "{which} fails");
                format!("[-]{name} failed: reason withheld\n")
            }
        };
        lines.push_str(&line);
    }
    let unknown: Vec<String> = excluded
        .iter()
        .filter(|name| !name.is_empty() && !all.iter().any(|(known, _)| known == *name))
        .map(|name| format!("{name:?}"))
        .collect();
    if !unknown.is_empty() {
        let line =
            format!("warn: some health checks cannot be excluded: no matches for {}\n", unknown.join(","));
        lines.push_str(&line);
    }
    match (failed, verbose) {
        (true, _) => {
            render::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{which} check failed\n"))
        }
        (false, true) => render::text(StatusCode::OK, format!("{lines}{which} check passed\n")),
        (false, false) => render::text(StatusCode::OK, "ok"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn outcome(checks: &[Check], excluded: &[String], verbose: bool) -> (u16, String) {
        let response = report("readyz", checks, excluded, verbose);
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn one_failing_check_fails_all() {
        let good: Check = ("ping".into(), None);
        let bad: Check = ("scheduler".into(), Some("secret".into()));
        assert_eq!(outcome(std::slice::from_ref(&good), &[], false).await, (200, "ok".into()));
        assert_eq!(
            outcome(std::slice::from_ref(&good), &[], true).await,
            (200, "[+]ping ok\nreadyz check passed\n".into())
        );
        let (code, text) = outcome(&[good.clone(), bad.clone()], &[], false).await;
        assert_eq!((code, text.contains("secret")), (500, false));
        assert!(text.contains("[-]scheduler failed"), "{text}");
        assert_eq!(outcome(&[good.clone(), bad], &["scheduler".into()], false).await.0, 200);
        let (_, text) = outcome(&[good], &["nosuch".into()], true).await;
        let warning = "warn: some health checks cannot be excluded: no matches for \"nosuch\"";
        assert_eq!(text, format!("[+]ping ok\n{warning}\nreadyz check passed\n"));
    }
}
