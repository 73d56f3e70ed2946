//! A network namespace of its own for each test, with pods made of further namespaces.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use kedge::network::{PodNetworkConfig, ServiceProxyConfig};
use nix::sched::{CloneFlags, setns, unshare};

const INSIDE: &str = "KEDGE_TEST_INSIDE_NETNS";

/// Runs the test `name` (its own path, as the harness knows it) in a fresh network namespace: this
/// process runs itself again under `unshare --net`.
pub fn isolated<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE).is_none() {
        let exe = std::env::current_exe().expect("the test's own path");
        let output = Command::new("unshare")
            .args(["--net", "--"])
            .arg(exe)
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(INSIDE, "1")
            .output()
            .expect("unshare runs (util-linux; as root)");
        let text = [output.stdout, output.stderr].map(|o| String::from_utf8_lossy(&o).into_owned()).concat();
        assert!(output.status.success(), "{text}");
        assert!(text.contains("1 passed"), "no test is called {name}:\n{text}");
        return;
    }
    run("ip", &["link", "set", "lo", "up"]);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test());
}

/// Runs a program of the test machine and gives its output.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The configuration the tests use.
pub fn config(state_dir: &Path) -> PodNetworkConfig {
    PodNetworkConfig {
        bridge: "kedge0".to_owned(),
        pod_cidr: "10.42.0.0/24".parse().expect("valid"),
        cluster_cidr: "10.42.0.0/16".parse().expect("valid"),
        service_cidr: "10.43.0.0/16".parse().expect("valid"),
        mtu: None,
        state_dir: state_dir.to_owned(),
        nft_table: "kedge".to_owned(),
    }
}

/// The service proxy's configuration beside it.
pub fn proxy_config() -> ServiceProxyConfig {
    ServiceProxyConfig {
        nft_table: "kedge".to_owned(),
        cluster_cidr: "10.42.0.0/16".parse().expect("valid"),
        service_cidr: "10.43.0.0/16".parse().expect("valid"),
        bridge: "kedge0".to_owned(),
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// A network namespace, held by a thread that does work inside it. It is gone when this is dropped.
pub struct Namespace {
    path: PathBuf,
    work: mpsc::Sender<Work>,
}

impl Namespace {
    /// A fresh one.
    pub fn new() -> Self {
        let (work, jobs) = mpsc::channel::<Work>();
        let (ready, tid) = mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a namespace (as root)");
            ready.send(nix::unistd::gettid()).expect("the test waits");
            while let Ok(job) = jobs.recv() {
                job();
            }
        });
        let tid = tid.recv().expect("the thread is ready");
        Self { path: PathBuf::from(format!("/proc/{}/task/{tid}/ns/net", std::process::id())), work }
    }

    /// A path that opens it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does something inside it.
    pub fn inside<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.work.send(Box::new(move || drop(done.send(job())))).expect("the thread lives");
        result.recv().expect("the job does not panic")
    }

    /// Answers each TCP connection with `name`, and each datagram with `name`, on a port.
    pub fn serve(&self, port: u16, name: &str) {
        let (tcp, udp) = self.inside(move || {
            let any = (Ipv4Addr::UNSPECIFIED, port);
            (TcpListener::bind(any).expect("free"), UdpSocket::bind(any).expect("free"))
        });
        let text = name.to_owned();
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.expect("accepted");
                let peer = stream.peer_addr().expect("known").ip();
                let _ = write!(stream, "{text} {peer}");
            }
        });
        let text = name.to_owned();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(format!("{text} {}", peer.ip()).as_bytes(), peer);
            }
        });
    }

    /// Connects from inside; see [`ask`].
    pub fn ask(&self, address: &str) -> std::io::Result<(String, String)> {
        let address = address.to_owned();
        self.inside(move || ask(&address))
    }

    /// Sends a datagram from inside; see [`ask_udp`].
    pub fn ask_udp(&self, address: &str) -> std::io::Result<(String, String)> {
        let address = address.to_owned();
        self.inside(move || ask_udp(&address))
    }
}

/// Who answers a TCP connection to `address`, and as whom it sees the client.
pub fn ask(address: &str) -> std::io::Result<(String, String)> {
    let address: SocketAddr = address.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(two_words(&text))
}

/// Who answers a datagram to `address`, and as whom it sees the client.
pub fn ask_udp(address: &str) -> std::io::Result<(String, String)> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect(address)?;
    socket.send(b"who?")?;
    let mut buffer = [0; 64];
    let len = socket.recv(&mut buffer)?;
    Ok(two_words(&String::from_utf8_lossy(&buffer[..len])))
}

fn two_words(text: &str) -> (String, String) {
    let (name, peer) = text.split_once(' ').expect("a name and an address");
    (name.to_owned(), peer.to_owned())
}

/// Connects this namespace and `other` as two machines on a wire: 192.0.2.1 here, 192.0.2.2 there,
/// with a default route from here to there.
pub fn wire(other: &Namespace) {
    let there = File::open(other.path()).expect("opens");
    run("ip", &["link", "add", "wire0", "type", "veth", "peer", "name", "wire1"]);
    let ns = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&there));
    run("ip", &["link", "set", "wire1", "netns", &ns]);
    run("ip", &["addr", "add", "192.0.2.1/24", "dev", "wire0"]);
    run("ip", &["link", "set", "wire0", "up"]);
    run("ip", &["route", "add", "default", "via", "192.0.2.2"]);
    other.inside(|| {
        run("ip", &["link", "set", "lo", "up"]);
        run("ip", &["addr", "add", "192.0.2.2/24", "dev", "wire1"]);
        run("ip", &["link", "set", "wire1", "up"]);
    });
}

/// Enters a namespace on the calling thread.
pub fn enter(path: &Path) {
    let file = File::open(path).expect("opens");
    setns(file, CloneFlags::CLONE_NEWNET).expect("entered");
}
