//! The API as kubectl sees it: the installed kubectl against a real listener.

mod server_support;

use std::process::{Command, Output, Stdio};

use server_support::TestServer;

/// Runs kubectl; `None` if there is none on this machine.
fn kubectl(server: &TestServer, arguments: &[&str], stdin: &str) -> Output {
    use std::io::Write;
    let mut child = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(server.kubeconfig())
        .args(["--cache-dir"])
        .arg(server.dir.path().join("cache"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

async fn run(server: &std::sync::Arc<TestServer>, arguments: &[&str], stdin: &str) -> (bool, String) {
    let (server, arguments, stdin) = (
        std::sync::Arc::clone(server),
        arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>(),
        stdin.to_owned(),
    );
    tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = kubectl(&server, &arguments, &stdin);
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn scratch() {
    let server = std::sync::Arc::new(TestServer::start().await);
    println!("KUBECONFIG={}", server.kubeconfig().display());
    for line in [
        "version",
        "get nodes",
        "get ns",
        "get svc -A -o wide",
        "get endpoints,endpointslices -A",
        "create configmap a --from-literal=x=y",
        "get cm -A",
        "get cm a -o yaml",
        "api-resources",
        "explain pod.spec",
        "auth can-i create pods",
        "auth whoami",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let (ok, text) = run(&server, &words, "").await;
        println!("$ kubectl {line}  -> {ok}\n{}", text.chars().take(3000).collect::<String>());
    }
    if std::env::var("HOLD").is_ok() {
        tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    }
}
