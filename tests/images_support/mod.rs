//! A registry that does what a test tells it to, and images made of bytes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kedge::runtime::images::{Images, Patience, RegistriesConfig};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With its query.
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// First byte of the range asked for.
    pub fn from(&self) -> usize {
        let range = self.header("range").trim_start_matches("bytes=").trim_end_matches('-').to_owned();
        range.parse().unwrap_or(0)
    }

    pub fn is_blob(&self) -> bool {
        self.path.contains("/blobs/")
    }
}

/// What is answered.
#[derive(Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Bytes of the body that are sent before the connection is closed or, with `hang`, kept.
    pub only: Option<usize>,
    pub hang: bool,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn body(body: &[u8]) -> Self {
        Self { status: 200, body: body.to_vec(), ..Self::default() }
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

type Handler = dyn Fn(&Asked, &Content) -> Reply + Send + Sync;

/// What a registry has, by the end of the path: `manifests/1`, `blobs/sha256:…`.
#[derive(Clone, Default)]
pub struct Content(Arc<Mutex<HashMap<String, Vec<u8>>>>);

impl Content {
    fn put(&self, path: String, bytes: Vec<u8>) {
        self.0.lock().insert(path, bytes);
    }

    pub fn blob(&self, bytes: &[u8], kind: &str) -> Value {
        self.put(format!("blobs/{}", digest(bytes)), bytes.to_vec());
        json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
    }

    /// Removes a blob.
    pub fn forget(&self, digest: &str) {
        self.0.lock().remove(&format!("blobs/{digest}"));
    }

    /// Stores a document under its digest and a tag; answers its descriptor.
    pub fn document(&self, tag: &str, value: &Value) -> Value {
        let bytes = value.to_string().into_bytes();
        self.put(format!("manifests/{tag}"), bytes.clone());
        self.put(format!("manifests/{}", digest(&bytes)), bytes.clone());
        json!({"mediaType": value["mediaType"], "digest": digest(&bytes), "size": bytes.len()})
    }

    /// An image of uncompressed layers for this machine.
    pub fn image(&self, tag: &str, layers: &[Vec<u8>]) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|l| digest(l)).collect();
        let config = json!({"architecture": arch(), "os": "linux", "rootfs": {"diff_ids": diff_ids}});
        let config = self.blob(config.to_string().as_bytes(), CONFIG);
        let layers: Vec<_> = layers.iter().map(|l| self.blob(l, LAYER)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.document(tag, &manifest)
    }

    /// What a registry that behaves answers, ranges included.
    pub fn answer(&self, asked: &Asked) -> Reply {
        let path = asked.path.split('?').next().unwrap_or_default();
        let key: Vec<&str> = path.rsplitn(3, '/').take(2).collect();
        let Some(bytes) = self.0.lock().get(&format!("{}/{}", key[1], key[0])).cloned() else {
            return Reply::status(404);
        };
        match asked.from() {
            0 => Reply::body(&bytes),
            from if from >= bytes.len() => Reply::status(416),
            from => {
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                Reply { status: 206, ..Reply::body(&bytes[from..]) }.with("Content-Range", range)
            }
        }
    }
}

/// A running registry. Its threads end with the process.
pub struct Registry {
    pub port: u16,
    pub content: Content,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Registry {
    /// One that behaves.
    pub fn new() -> Self {
        Self::with(|asked, content| content.answer(asked))
    }

    /// One that answers as `handler` says.
    pub fn with(handler: impl Fn(&Asked, &Content) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (content, asked) = (Content::default(), Arc::<Mutex<Vec<Asked>>>::default());
        let (handler, served, noted) = (Arc::new(handler), content.clone(), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (handler, content, asked) = (Arc::clone(&handler), served.clone(), Arc::clone(&noted));
                std::thread::spawn(move || serve(stream, &*handler, &content, &asked));
            }
        });
        Self { port, content, asked }
    }

    /// Host and port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host())
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    pub fn blobs_asked(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(Asked::is_blob).collect()
    }
}

fn serve(stream: TcpStream, handler: &Handler, content: &Content, noted: &Mutex<Vec<Asked>>) {
    let Ok(writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        noted.lock().push(asked.clone());
        let reply = handler(&asked, content);
        if !write(&writer, &reply) {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Whether the connection goes on.
fn write(mut stream: &TcpStream, reply: &Reply) -> bool {
    let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let all = &reply.body[..reply.only.unwrap_or(reply.body.len())];
    let sent = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(all));
    if reply.hang {
        // Until the other side has had enough of it.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
        let _ = stream.read(&mut [0]);
    }
    if reply.only.is_some() || reply.hang {
        let _ = stream.shutdown(Shutdown::Both);
    }
    sent.is_ok() && reply.only.is_none() && !reply.hang
}

pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A layer with one file of bytes that no compression makes smaller.
pub fn layer(path: &str, size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let data: Vec<u8> = (0..size).map(|_| next()).collect();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, path, &data[..]).unwrap();
    builder.into_inner().unwrap()
}

/// A store whose registries are given up soon.
pub fn open(dir: &Path, registries: &str) -> Images {
    let patience =
        Patience { silence: Duration::from_millis(700), attempts: 5, pause: Duration::from_millis(1) };
    open_with(dir, registries, patience)
}

pub fn open_with(dir: &Path, registries: &str, patience: Patience) -> Images {
    let config = RegistriesConfig::parse(registries).unwrap().with_patience(patience);
    Images::open(&dir.join("images"), config).unwrap()
}
