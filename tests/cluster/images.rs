//! Images for tests, made of this machine's own programs.

use std::fs::File;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Names of the applets the tests' containers use.
const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "ls", "sleep", "true", "false", "env", "id", "hostname", "nslookup", "wget", "nc",
    "httpd", "ps", "tar", "mount", "readlink", "tail", "touch", "date", "stty", "printf", "rm", "mkdir",
    "test", "kill", "head", "dd", "ip", "cmp", "cp", "pidof", "grep", "stat", "seq", "tr", "sort",
];

/// Writes a `docker save` archive of `busybox:1.35` and `busybox:1.36`: busybox-static and links.
pub fn write_busybox(path: &Path) {
    let config = |version: &str| serde_json::json!({"Cmd": ["sh"], "Env": ["PATH=/bin", format!("VERSION={version}")]});
    let with = |name: &str, value: &str| {
        let mut config = config("1.36");
        config[name] = value.into();
        config
    };
    let images = [
        ("busybox:1.35", config("1.35")),
        ("busybox:1.36", config("1.36")),
        ("busybox:web", with("User", "web")),
        ("busybox:1000", with("User", "1000")),
        ("busybox:quit", with("StopSignal", "SIGQUIT")),
    ];
    write_archive(path, &images, &busybox_layer());
}

/// The layer of these images.
pub fn busybox_layer() -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    for directory in ["bin/", "etc/", "tmp/", "root/", "www/"] {
        let mode = if directory == "tmp/" { 0o1777 } else { 0o755 };
        append(&mut layer, directory, tar::EntryType::Directory, mode, b"", None);
    }
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    append(&mut layer, "bin/busybox", tar::EntryType::Regular, 0o755, &busybox, None);
    for applet in APPLETS {
        append(&mut layer, &format!("bin/{applet}"), tar::EntryType::Symlink, 0o777, b"", Some("busybox"));
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/tmp:/bin/sh\n";
    append(&mut layer, "etc/passwd", tar::EntryType::Regular, 0o644, passwd, None);
    let group = b"root:x:0:\nweb:x:1000:\nlogs:x:4:web\n";
    append(&mut layer, "etc/group", tar::EntryType::Regular, 0o644, group, None);
    append(&mut layer, "www/index.html", tar::EntryType::Regular, 0o644, b"it works\n", None);
    layer.into_inner().expect("layer is written")
}

/// Writes a `docker save` archive of images that have one layer in common: their names, their `config`.
pub fn write_archive(path: &Path, images: &[(&str, serde_json::Value)], layer: &[u8]) {
    write_archive_of(path, images, Some(layer));
}

/// The same; they may have no layer at all.
pub fn write_archive_of(path: &Path, images: &[(&str, serde_json::Value)], layer: Option<&[u8]>) {
    let mut archive = tar::Builder::new(File::create(path).expect("archive is made"));
    let mut manifest = Vec::new();
    for (name, config) in images {
        let config = serde_json::json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": layer.iter().map(|l| format!("sha256:{}", hex::encode(Sha256::digest(l)))).collect::<Vec<_>>()},
        });
        let config = serde_json::to_vec(&config).expect("JSON");
        let file = format!("{}.json", hex::encode(Sha256::digest(&config)));
        append(&mut archive, &file, tar::EntryType::Regular, 0o644, &config, None);
        manifest.push(serde_json::json!({"Config": file, "RepoTags": [name], "Layers": layer.iter().map(|_| "layer.tar").collect::<Vec<_>>()}));
    }
    if let Some(layer) = layer {
        append(&mut archive, "layer.tar", tar::EntryType::Regular, 0o644, layer, None);
    }
    let manifest = serde_json::to_vec(&manifest).expect("JSON");
    append(&mut archive, "manifest.json", tar::EntryType::Regular, 0o644, &manifest, None);
    archive.finish().expect("archive is written");
}

fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    content: &[u8],
    link: Option<&str>,
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    if let Some(link) = link {
        header.set_link_name(link).expect("link name fits");
    }
    archive.append_data(&mut header, path, content).expect("entry is written");
}
