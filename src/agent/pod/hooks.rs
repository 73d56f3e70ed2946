//! Lifecycle hooks: postStart and preStop.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};

use super::worker::{Wanted, Worker};
use crate::agent::context::Context;
use crate::agent::probes::http::{self, Error, Get};
use crate::agent::spec::full_name;

/// HTTP hooks get as long as anything may take; the pod's end cuts all of them short.
const HTTP_LIMIT: Duration = Duration::from_secs(3600);

/// A hook of one container.
pub(super) struct Hook<'a> {
    pub context: &'a Context,
    pub pod: &'a Pod,
    pub container: &'a Container,
    /// The container's id.
    pub id: &'a str,
    /// The pod's address.
    pub address: &'a str,
    pub handler: &'a LifecycleHandler,
}

impl Hook<'_> {
    /// Runs it to its end; the error's text is the waiting state's message. Events do not have it:
    /// what a hook says may be secret.
    pub(super) async fn run(&self) -> Result<(), String> {
        let place = format!("for Container \"{}\" in Pod \"{}\"", self.container.name, full_name(self.pod));
        if let Some(exec) = &self.handler.exec {
            let command = exec.command.as_deref().unwrap_or_default();
            return self.exec(command).await.map_err(|(error, said)| {
                let command = command.join(" ");
                format!(
                    "Exec lifecycle hook ([{command}]) {place} failed - error: {error}, message: {said:?}"
                )
            });
        }
        if let Some(action) = &self.handler.http_get {
            let path = action.path.as_deref().unwrap_or_default();
            let answer = self.http(action).await;
            return answer
                .map(drop)
                .map_err(|error| format!("HTTP lifecycle hook ({path}) {place} failed - error: {error}"));
        }
        if let Some(sleep) = &self.handler.sleep {
            tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
            return Ok(());
        }
        // `tcpSocket` is in the API, and never worked.
        Err("Cannot run handler: invalid handler: only exec, httpGet and sleep can be run".into())
    }

    async fn exec(&self, command: &[String]) -> Result<(), (String, String)> {
        let output = self.context.runtime.exec_sync(self.id, command, Duration::ZERO).await;
        let output = output.map_err(|e| (format!("failed to exec in container: {e}"), String::new()))?;
        if output.code == 0 {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let error = format!("command '{}' exited with {}: {errors}", command.join(" "), output.code);
        Err((error, String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()))
    }

    /// Whatever the server answers is a success.
    async fn http(&self, action: &k8s_openapi::api::core::v1::HTTPGetAction) -> Result<http::Answer, String> {
        let request = Get::new(action, self.container, self.address, "lifecycle")?;
        match request.send(HTTP_LIMIT).await {
            Err(Error::Plain(_)) => {
                let authority = request.authority();
                let answer = request.plain().send(HTTP_LIMIT).await.map_err(|e| e.to_string())?;
                let text = format!(
                    "request to HTTPS lifecycle hook {authority} got HTTP response, retry with HTTP succeeded"
                );
                self.context.events.pod(self.pod, None, "Warning", "LifecycleHTTPFallback", text);
                Ok(answer)
            }
            other => other.map_err(|e| e.to_string()),
        }
    }
}

impl Worker {
    /// Runs the container's postStart hook; a container whose hook fails is ended.
    pub(super) async fn post_start(
        &mut self,
        pod: &Pod,
        container: &Container,
        id: &str,
    ) -> Result<(), (&'static str, String)> {
        let Some(handler) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(());
        };
        // Until its hook is done the container counts as waiting, as it did before.
        let mut observed = self.observe().await;
        observed.forget(id);
        self.report(pod, &observed, false).await;
        let address = self.probe_address(pod);
        let hook = Hook { context: &self.context, pod, container, id, address: &address, handler };
        let mut wanted = self.wanted.clone();
        let result = tokio::select! {
            result = hook.run() => result,
            // The next round ends the container, without waiting for its start.
            () = deleted(&mut wanted) => return Ok(()),
        };
        let Err(message) = result else { return Ok(()) };
        self.event(pod, &container.name, "Warning", "FailedPostStartHook", "PostStartHook failed".into());
        let killer = self.killer(pod);
        tokio::select! {
            () = killer.container(&container.name, id, "FailedPostStartHook".into(), None) => {}
            () = deleted(&mut wanted) => {}
        }
        Err(("PostStartHookError", message))
    }
}

/// Answers once the pod is to be ended.
pub(super) async fn deleted(wanted: &mut tokio::sync::watch::Receiver<Wanted>) {
    let is_deleted = |wanted: &Wanted| match wanted {
        Wanted::Pod(pod) => pod.metadata.deletion_timestamp.is_some(),
        Wanted::Gone(_) => true,
    };
    if wanted.wait_for(is_deleted).await.is_err() {
        // The agent stops; so will the caller.
        std::future::pending::<()>().await;
    }
}
