//! Lifecycle hooks: postStart and preStop.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::agent::probes::{http, resolve_port};
use crate::runtime::Runtime;

/// Hooks have no timeout of their own; an exec in a container that stays away must end some day.
const EXEC_LIMIT: Duration = Duration::from_secs(3600);
const HTTP_LIMIT: Duration = Duration::from_secs(60);

/// Runs a hook to its end; the error is the event's text.
pub(super) async fn run(
    runtime: &Runtime,
    container: &Container,
    id: &str,
    address: &str,
    hook: &LifecycleHandler,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.as_deref().unwrap_or_default();
        let output = runtime.exec_sync(id, command, EXEC_LIMIT).await.map_err(|e| e.to_string())?;
        if output.code == 0 {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        return Err(format!(
            "Exec lifecycle hook ([{}]) for Container \"{}\" failed - error: command '{}' exited with {}: {}, message: {:?}",
            command.join(" "),
            container.name,
            command.join(" "),
            output.code,
            String::from_utf8_lossy(&said),
            String::from_utf8_lossy(&said),
        ));
    }
    if let Some(action) = &hook.http_get {
        let port =
            resolve_port(container, &action.port).ok_or_else(|| format!("invalid port {:?}", action.port))?;
        let request = http::Get::new(action, address, port);
        let answer = request.send(HTTP_LIMIT).await.map_err(|e| format!("Get \"{}\": {e}", request.url()))?;
        if answer.status < 400 {
            return Ok(());
        }
        return Err(format!(
            "HTTP lifecycle hook ({}) for Container \"{}\" failed - statuscode: {}",
            request.url(),
            container.name,
            answer.status
        ));
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    Ok(())
}
