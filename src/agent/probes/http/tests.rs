use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use super::*;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(20);

/// Answers each connection by its request line, on a port of its own; tells what was asked.
fn serve(answer: fn(&str, u16) -> String) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let port = listener.local_addr().expect("has an address").port();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|n| n > 0) {}
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let _ = sender.send(head);
            let _ = stream.write_all(answer(&path, port).as_bytes());
        }
    });
    (port, receiver)
}

fn get(port: u16, change: Value) -> Get {
    let mut action = json!({"port": port, "path": "/"});
    for (key, value) in change.as_object().expect("an object") {
        action[key] = value.clone();
    }
    let action = serde_json::from_value(action).expect("an action");
    Get::new(&action, &Container::default(), "127.0.0.1", "probe").expect("a port")
}

async fn head(change: Value) -> String {
    let (port, asked) = serve(|_, _| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into());
    let answer = get(port, change).send(LONG).await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    asked.recv().expect("a request").to_lowercase().replace(&port.to_string(), "PORT")
}

#[tokio::test]
async fn headers_are_kubelets_unless_given() {
    let plain = head(json!({"path": "x?y=z"})).await;
    assert!(plain.starts_with("get /x?y=z http/1.1\r\n"), "{plain}");
    for line in ["host: 127.0.0.1:PORT", "user-agent: kube-probe/1.36", "accept: */*", "connection: close"] {
        assert!(plain.contains(&format!("\r\n{line}\r\n")), "{line}: {plain}");
    }
    let given = json!({"httpHeaders": [{"name": "Host", "value": "example.org"}, {"name": "user-agent", "value": "me"},
        {"name": "Accept", "value": ""}, {"name": "X-Twice", "value": "1"}, {"name": "X-Twice", "value": "2"}]});
    let given = head(given).await;
    for line in ["host: example.org", "user-agent: me", "x-twice: 1", "x-twice: 2"] {
        assert!(given.contains(&format!("\r\n{line}\r\n")), "{line}: {given}");
    }
    assert!(!given.contains("accept:") && !given.contains("kube-probe"), "{given}");
}

fn redirects(path: &str, port: u16) -> String {
    let location = match path {
        "/here" => "/there".to_owned(),
        "/full" => format!("http://127.0.0.1:{port}/there"),
        "/away" => "http://0.0.0.0/".to_owned(),
        "/loop" => "/loop".to_owned(),
        "/nowhere" => String::new(),
        _ => return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(),
    };
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 5\r\n\r\nFound")
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host_only() {
    for (path, expected) in [
        ("/here", Ok(200)),
        ("/full", Ok(200)),
        ("/away", Ok(302)),
        ("/nowhere", Ok(302)),
        ("/loop", Err("/loop\": stopped after 10 redirects")),
    ] {
        let (port, _asked) = serve(redirects);
        let answer = get(port, json!({"path": path})).send(LONG).await;
        match (answer, expected) {
            (Ok(answer), Ok(status)) => assert_eq!(answer.status, status, "{path}"),
            (Err(error), Err(text)) => assert!(error.to_string().ends_with(text), "{error}"),
            (answer, _) => panic!("{path}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn a_host_given_for_one_server_is_not_told_another() {
    let (port, asked) = serve(redirects);
    let host = json!([{"name": "Host", "value": "example.org"}]);
    for (path, expected) in [("/here", "example.org".to_owned()), ("/full", format!("127.0.0.1:{port}"))] {
        get(port, json!({"path": path, "httpHeaders": host})).send(LONG).await.expect("an answer");
        assert!(asked.recv().expect("first").contains("example.org"));
        let second = asked.recv().expect("second").to_lowercase();
        assert!(second.contains(&format!("host: {expected}\r\n")), "{path}: {second}");
    }
}

#[tokio::test]
async fn bodies_are_read_to_a_limit() {
    let (port, _asked) = serve(|_, _| format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1 << 20)));
    let answer = get(port, json!({})).send(LONG).await.expect("an answer");
    assert!(answer.body.len() <= MAX_BODY, "{}", answer.body.len());
}

#[tokio::test]
async fn failures_are_told_as_gos_client_tells_them() {
    let (port, _asked) = serve(|path, _| {
        if path == "/slow" {
            std::thread::sleep(LONG);
        }
        if path == "/odd" { "what?\r\n\r\n".into() } else { String::new() }
    });
    let ended = get(port, json!({})).send(LONG).await.expect_err("no answer");
    assert_eq!(ended.to_string(), format!("Get \"http://127.0.0.1:{port}/\": EOF"));
    let odd = get(port, json!({"path": "/odd"})).send(LONG).await.expect_err("no answer").to_string();
    assert!(odd.contains("malformed HTTP response"), "{odd}");
    let slow = get(port, json!({"path": "/slow"})).send(Duration::from_millis(50)).await.expect_err("slow");
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    assert_eq!(slow.to_string(), format!("Get \"http://127.0.0.1:{port}/slow\": {late}"));
    let (port, _asked) = serve(|_, _| "HTTP/1.0 400 Bad Request\r\n\r\n".into());
    let plain = get(port, json!({"scheme": "HTTPS"})).send(LONG).await.expect_err("no TLS");
    assert!(matches!(plain, Error::Plain(_)), "{plain:?}");
    let free = TcpListener::bind("127.0.0.1:0").expect("listens").local_addr().expect("an address").port();
    let refused = get(free, json!({})).send(LONG).await.expect_err("refused").to_string();
    assert!(
        refused.ends_with(&format!("dial tcp 127.0.0.1:{free}: connect: connection refused")),
        "{refused}"
    );
}
