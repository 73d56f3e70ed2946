//! Images of real servers, made of Debian's packages, under the names people type.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::images::write_archive;

/// What an image is made of; made once and kept in the cache of the tests.
pub struct Recipe {
    /// The name it gets, as `redis:7`.
    pub name: &'static str,
    /// Debian's packages; what they depend on comes along.
    pub packages: &'static [&'static str],
    /// Files beyond those of the packages: path, text.
    pub files: &'static [(&'static str, &'static str)],
    /// Directories everybody may write to.
    pub writable: &'static [&'static str],
    /// `config` of the image.
    pub config: fn() -> Value,
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// nginx as its well-known image has it: conf.d, the welcome page, in the foreground.
pub const NGINX: Recipe = Recipe {
    name: "nginx:1.24",
    packages: &["nginx"],
    files: &[
        (
            "etc/nginx/nginx.conf",
            "user www-data;\nworker_processes 1;\nerror_log /dev/stderr notice;\npid /run/nginx.pid;\n\
             events { worker_connections 64; }\n\
             http {\n  include /etc/nginx/mime.types;\n  access_log /dev/stdout;\n  include /etc/nginx/conf.d/*.conf;\n}\n",
        ),
        (
            "etc/nginx/conf.d/default.conf",
            "server {\n  listen 80;\n  location / { root /usr/share/nginx/html; index index.html; }\n}\n",
        ),
    ],
    writable: &[],
    config: || json!({"Env": [PATH, "NGINX_VERSION=1.24"], "Cmd": ["nginx", "-g", "daemon off;"], "StopSignal": "SIGQUIT", "ExposedPorts": {"80/tcp": {}}}),
};

/// The next nginx, to roll to: the same with another version in its environment.
pub const NGINX_NEXT: Recipe = Recipe {
    name: "nginx:1.25",
    config: || {
        let mut config = (NGINX.config)();
        config["Env"] = json!([PATH, "NGINX_VERSION=1.25"]);
        config
    },
    ..NGINX
};

/// redis, which keeps what it keeps in its working directory.
pub const REDIS: Recipe = Recipe {
    name: "redis:7",
    packages: &["redis-server"],
    files: &[],
    writable: &["data"],
    config: || {
        json!({"Env": [PATH], "Cmd": ["redis-server", "--protected-mode", "no"], "WorkingDir": "/data",
            "Volumes": {"/data": {}}, "ExposedPorts": {"6379/tcp": {}}})
    },
};

/// postgres, which makes its data directory at the first start, as user 999 if nobody says otherwise.
pub const POSTGRES: Recipe = Recipe {
    name: "postgres:15",
    packages: &["postgresql-15"],
    files: &[(
        "usr/bin/docker-entrypoint",
        "#!/bin/sh\nset -e\nif [ ! -s \"$PGDATA/PG_VERSION\" ]; then\n  printf %s \"$POSTGRES_PASSWORD\" >/tmp/password\n  \
         initdb --auth-host=scram-sha-256 --auth-local=trust --username=postgres --pwfile=/tmp/password --no-locale \
         --encoding=UTF8 --no-sync\n  rm /tmp/password\n  echo 'host all all all scram-sha-256' >>\"$PGDATA/pg_hba.conf\"\nfi\n\
         exec \"$@\"\n",
    )],
    writable: &["run/postgresql", "var/lib/postgresql/data"],
    config: || {
        json!({"Entrypoint": ["docker-entrypoint"], "Cmd": ["postgres", "-c", "listen_addresses=*"], "User": "postgres",
            "Env": ["PATH=/usr/lib/postgresql/15/bin:/usr/bin", "PGDATA=/var/lib/postgresql/data"],
            "StopSignal": "SIGINT", "ExposedPorts": {"5432/tcp": {}}})
    },
};

/// Programs every image has, of busybox.
const APPLETS: &[&str] = &[
    "sh", "cat", "chmod", "cp", "date", "env", "find", "grep", "hostname", "id", "kill", "ls", "mkdir", "ps",
    "rm", "sed", "sleep", "stat", "tail", "tee", "test", "touch", "true", "wget",
];
const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\n\
                     postgres:x:999:999::/var/lib/postgresql:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
const GROUPS: &str = "root:x:0:\nwww-data:x:33:\npostgres:x:999:\nnogroup:x:65534:\n";
/// What a server does not need to serve: makes the images a third as large.
const LEFT_OUT: &[&str] = &[
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/locale",
    "./usr/share/i18n",
    "./usr/share/perl*",
    "./usr/lib/*/perl*",
    "./usr/lib/*/libLLVM*",
    "./usr/lib/llvm*",
    "./usr/lib/*/gconv",
    "./usr/lib/python*",
    "./usr/share/postgresql/15/man",
];

impl Recipe {
    /// The `docker save` archive of the image, in the cache.
    pub fn archive(&self) -> PathBuf {
        let cache = cache();
        let config = (self.config)();
        let recipe = format!(
            "{}{:?}{:?}{:?}{config}{APPLETS:?}{USERS}{LEFT_OUT:?}2",
            self.name, self.packages, self.files, self.writable
        );
        let digest = hex::encode(Sha256::digest(recipe));
        let path = cache.join(format!("{}-{}.tar", self.name.replace(':', "-"), &digest[..12]));
        // Several tests may want the first one.
        let lock = File::create(cache.join("lock")).expect("lock file");
        lock.lock().expect("locked");
        if !path.exists() {
            let new = path.with_extension("new");
            let root = self.root(&cache);
            write_archive(&new, &[(self.name, config)], &layer(root.path()));
            fs::rename(&new, &path).expect("renamed");
        }
        path
    }

    /// The root file system, in a temporary directory.
    fn root(&self, cache: &Path) -> tempfile::TempDir {
        let root = tempfile::tempdir_in(cache).expect("directory");
        let at = |path: &str| root.path().join(path);
        for directory in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "tmp", "root", "proc", "run"]
        {
            fs::create_dir_all(at(directory)).expect("directory");
        }
        for merged in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{merged}"), at(merged)).expect("link");
        }
        fs::create_dir_all(at("var")).expect("directory");
        std::os::unix::fs::symlink("/run", at("var/run")).expect("link");
        for package in packages(cache, self.packages) {
            unpack(&package, root.path());
        }
        for applet in APPLETS.iter().filter(|a| !at("usr/bin").join(a).exists()) {
            let link = at("usr/bin").join(applet);
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink("busybox", link).expect("link");
        }
        for (path, text) in self.files.iter().chain(&[("etc/passwd", USERS), ("etc/group", GROUPS)]) {
            fs::create_dir_all(at(path).parent().expect("has one")).expect("directory");
            fs::write(at(path), text).expect("file");
            mode(&at(path), if text.starts_with("#!") { 0o755 } else { 0o644 });
        }
        for directory in self.writable.iter().chain(&["tmp"]) {
            fs::create_dir_all(at(directory)).expect("directory");
            mode(&at(directory), 0o1777);
        }
        root
    }
}

fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode is set");
}

fn cache() -> PathBuf {
    let cache = std::env::var_os("KEDGE_TEST_CACHE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-cache"), PathBuf::from);
    let cache = cache.join("images");
    fs::create_dir_all(cache.join("debs/partial")).expect("the cache is made");
    fs::canonicalize(cache).expect("exists")
}

/// Downloads packages and all they depend on, as apt would install them on a machine that has nothing.
fn packages(cache: &Path, names: &[&str]) -> Vec<PathBuf> {
    let nothing = cache.join("status");
    fs::write(&nothing, "").expect("file");
    let debs = cache.join("debs");
    let apt = |more: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["install", "-y", "-qq", "--no-install-recommends"]).args(more);
        command.arg("-o").arg(format!("Dir::State::status={}", nothing.display()));
        command.arg("-o").arg(format!("Dir::Cache::archives={}", debs.display()));
        command
            .args(["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"])
            .args(names)
            .arg("busybox-static");
        command.stdin(Stdio::null()).output().expect("apt-get runs")
    };
    let mut got = apt(&["--download-only"]);
    if !got.status.success() {
        // Versions in an old list of packages are no longer there.
        let update = Command::new("apt-get").args(["update", "-qq"]).status().expect("apt-get runs");
        assert!(update.success(), "apt-get update");
        got = apt(&["--download-only"]);
    }
    assert!(got.status.success(), "{names:?}: {}", String::from_utf8_lossy(&got.stderr));
    resolved(&debs, &apt(&["--simulate"]).stdout)
}

/// The files of the packages that apt says it would install: lines `Inst name (version …`.
fn resolved(debs: &Path, simulation: &[u8]) -> Vec<PathBuf> {
    let text = String::from_utf8_lossy(simulation);
    let lines = text.lines().filter_map(|line| line.strip_prefix("Inst "));
    let file = |line: &str| {
        let mut words = line.split([' ', '(']).filter(|word| !word.is_empty());
        let (name, version) = (words.next().expect("a name"), words.next().expect("a version"));
        let start = format!("{name}_{}_", version.replace(':', "%3a"));
        let entries = fs::read_dir(debs).expect("directory").flatten();
        let found = entries
            .map(|e| e.path())
            .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&start)));
        found.unwrap_or_else(|| panic!("{start} is not downloaded"))
    };
    lines.map(file).collect()
}

fn unpack(package: &Path, root: &Path) {
    let mut files = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .expect("dpkg-deb runs");
    let mut tar = Command::new("tar");
    tar.args(["-x", "--keep-directory-symlink", "-C"]).arg(root);
    tar.args(LEFT_OUT.iter().map(|path| format!("--exclude={path}")));
    let unpacked = tar.stdin(files.stdout.take().expect("piped")).status().expect("tar runs");
    assert!(unpacked.success() && files.wait().expect("reaped").success(), "{}", package.display());
}

fn layer(root: &Path) -> Vec<u8> {
    let tar = Command::new("tar")
        .args(["-c", "--sort=name", "--mtime=@0", "--numeric-owner", "--owner=0", "--group=0", "-C"])
        .arg(root)
        .arg(".")
        .stderr(Stdio::inherit())
        .output()
        .expect("tar runs");
    assert!(tar.status.success(), "the layer is packed");
    tar.stdout
}
