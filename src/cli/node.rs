//! The node inside `kedge server`: image store, runtime and agent, put together.

use std::path::Path;
use std::sync::Arc;

use super::Error;
use super::images::service;
use super::installation::{images_directory, open_images};
use crate::agent::{Agent, NodeCredentials};
use crate::config::{Instance, NodeSettings, ServerSettings};
use crate::network;
use crate::runtime::images::{Images, RegistriesConfig};
use crate::runtime::{Runtime, RuntimeConfig};
use crate::server::Server;
use crate::supervisor::{OnFailure, Stage, Supervisor};

fn runtime_config(data_dir: &Path, instance: &Instance) -> RuntimeConfig {
    RuntimeConfig {
        root: data_dir.join("agent/runtime"),
        state: instance.run_dir().join("runtime"),
        cgroup_root: instance.name.clone(),
        shim_exe: "/proc/self/exe".into(),
    }
}

/// Starts the node's parts under the supervisor.
///
/// # Errors
/// A part cannot be opened: it says why.
pub async fn start(settings: &ServerSettings, server: &Server, supervisor: &Supervisor) -> Result<(), Error> {
    let node = &settings.node;
    supervisor
        .step(format!("opening the image store in {}", node.data_dir.join("agent/image-store").display()));
    let registries = RegistriesConfig::load(&node.private_registry)?;
    let registries = registries.with_default_endpoint(!node.disable_default_registry_endpoint);
    let images = open_images(&node.data_dir, registries)?;
    supervisor.step("making an image of this executable");
    images.self_image().await?;
    supervisor.step("looking for containers of the process before");
    let runtime = Runtime::open(runtime_config(&node.data_dir, &node.instance)).await?;
    serve_images(node, &images, &runtime, supervisor)?;
    let client =
        crate::client::in_process(server.service_as(crate::server::auth::User::node(&node.node_name)));
    let credentials = server.node_credentials(&node.node_name, &[node.node_ip])?;
    let credentials = NodeCredentials {
        ca_pem: credentials.ca_pem,
        client_ca_pem: credentials.client_ca_pem,
        serving_cert_pem: credentials.serving.cert_pem,
        serving_key_pem: credentials.serving.key_pem,
    };
    let agent = Agent::new(node.clone(), client, credentials, runtime, Arc::new(images))?;
    agent.run(supervisor);
    Ok(())
}

fn serve_images(
    node: &NodeSettings,
    images: &Images,
    runtime: &Runtime,
    supervisor: &Supervisor,
) -> Result<(), Error> {
    let listener = Arc::new(service::bind(&node.instance)?);
    let (watching, directory) = (images.clone(), images_directory(&node.data_dir));
    supervisor.spawn("image directory", Stage::Agent, OnFailure::Restart, move |token| {
        let (images, directory) = (watching.clone(), directory.clone());
        async move { Ok(images.watch(&directory, token).await?) }
    });
    let (images, runtime) = (images.clone(), runtime.clone());
    supervisor.spawn("image socket", Stage::Listener, OnFailure::Restart, move |token| {
        let (listener, images, runtime) = (Arc::clone(&listener), images.clone(), runtime.clone());
        async move { Ok(service::serve(&listener, &images, &runtime, &token).await?) }
    });
    Ok(())
}

/// Removes what a node has made on the machine, its files excepted.
///
/// # Errors
/// What could not be removed.
pub async fn cleanup(data_dir: &Path, instance: &Instance) -> Result<(), Error> {
    Runtime::cleanup_all(&runtime_config(data_dir, instance)).await?;
    crate::agent::cleanup(data_dir)?;
    let names = network::Names {
        bridge: instance.bridge.clone(),
        nft_table: instance.name.clone(),
        state_dir: data_dir.join("agent/network"),
    };
    network::cleanup(&names).await?;
    Ok(())
}
