use super::*;
use crate::runtime::shim::in_root::InRoot;
use crate::runtime::spec::{Mount, MountKind};
use std::collections::BTreeMap;

fn build(spec: &ContainerSpec, image: &ImageConfig, sandbox: &SandboxSpec) -> Result<Spec, Error> {
    super::spec(&Inputs {
        spec,
        image,
        sandbox,
        identity: &Identity { uid: 5, gid: 6, groups: vec![6, 7], home: "/home/x".into() },
        rootfs: Path::new("/state/rootfs"),
        namespaces: &|typ| (typ == Ns::Network).then(|| "/ns/net".into()),
        shm: Path::new("/state/shm"),
        cgroup: "kedge/pod/c",
        cgroups: &Cgroups::V1(BTreeMap::from([("devices".to_string(), "/x".into())])),
        limit: Caps(u64::MAX >> 23),
    })
}

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["/entry".into()],
        cmd: vec!["a".into(), "b".into()],
        env: vec!["A=1".into(), "PATH=/image".into()],
        working_dir: "/srv".into(),
        ..Default::default()
    }
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

#[test]
fn command_and_args_follow_kubernetes() {
    let command = |c: &[&str], a: &[&str]| {
        let spec = ContainerSpec { command: strings(c), args: strings(a), ..Default::default() };
        super::command(&spec, &image()).unwrap().join(" ")
    };
    assert_eq!(command(&[], &[]), "/entry a b");
    assert_eq!(command(&[], &["x"]), "/entry x");
    assert_eq!(command(&["y"], &[]), "y");
    assert_eq!(command(&["y"], &["z"]), "y z");
    let nothing = super::command(&ContainerSpec::default(), &ImageConfig::default());
    assert_eq!(nothing.unwrap_err().to_string(), "invalid specification: no command specified");
}

#[test]
fn environment_is_layered() {
    let spec = ContainerSpec { env: vec![("A".into(), "2".into())], tty: true, ..Default::default() };
    let sandbox = SandboxSpec { hostname: "web-0".into(), ..Default::default() };
    let built = build(&spec, &image(), &sandbox).unwrap();
    let process = built.process().clone().unwrap();
    let env = process.env().clone().unwrap();
    assert_eq!(env, ["PATH=/image", "HOSTNAME=web-0", "HOME=/home/x", "TERM=xterm", "A=2"]);
    assert_eq!(process.cwd(), Path::new("/srv"));
    assert_eq!((process.user().uid(), process.user().gid()), (5, 6));
    assert_eq!(process.no_new_privileges(), None);
}

#[test]
fn namespaces_of_the_sandbox_are_joined() {
    let built = build(&ContainerSpec::default(), &image(), &SandboxSpec::default()).unwrap();
    let linux = built.linux().clone().unwrap();
    let all = linux.namespaces().clone().unwrap();
    let get = |t| all.iter().find(|n| n.typ() == t).map(|n| n.path().clone());
    assert_eq!(get(Ns::Network), Some(Some("/ns/net".into())));
    assert_eq!(get(Ns::Pid), Some(None));
    assert_eq!(get(Ns::Ipc), None);
    assert!(linux.masked_paths().as_ref().unwrap().contains(&"/proc/kcore".to_string()));
    let host = SandboxSpec { host_pid: true, ..Default::default() };
    let built = build(&ContainerSpec::default(), &image(), &host).unwrap();
    let linux = built.linux().clone().unwrap();
    assert!(linux.namespaces().as_ref().unwrap().iter().all(|n| n.typ() != Ns::Pid));
}

#[test]
fn privileged_hides_nothing() {
    let spec = ContainerSpec { privileged: true, ..Default::default() };
    let linux = build(&spec, &image(), &SandboxSpec::default()).unwrap().linux().clone().unwrap();
    assert_eq!(linux.masked_paths(), &None);
    assert_eq!(linux.readonly_paths(), &None);
    let devices = linux.resources().clone().unwrap().devices().clone().unwrap();
    assert!(devices[0].allow());
}

#[test]
fn unmasked_hides_nothing_and_gives_no_devices() {
    let spec = ContainerSpec { unmasked: true, apparmor: Some("p".into()), ..Default::default() };
    let built = build(&spec, &image(), &SandboxSpec::default()).unwrap();
    let linux = built.linux().clone().unwrap();
    assert_eq!((linux.masked_paths(), linux.devices()), (&None, &None));
    assert_eq!(
        linux.readonly_paths().as_deref(),
        Some(&["/sys/fs/cgroup".to_owned()][..]),
        "but cgroups of version 1"
    );
    assert_eq!(built.process().as_ref().unwrap().apparmor_profile().as_deref(), Some("p"));
}

#[test]
fn mounts_asked_for_come_last_and_replace_defaults() {
    let bind = |target: &str| Mount { source: "/tmp".into(), target: target.into(), ..Default::default() };
    let shm = Mount { target: "/dev/shm".into(), kind: MountKind::Tmpfs(Some(4096)), ..Default::default() };
    let spec = ContainerSpec { mounts: vec![bind("/a/b/c"), bind("/a"), shm], ..Default::default() };
    let built = build(&spec, &image(), &SandboxSpec::default()).unwrap();
    let mounts = built.mounts().clone().unwrap();
    let targets: Vec<_> = mounts.iter().map(|m| m.destination().to_str().unwrap()).collect();
    assert_eq!(targets[targets.len() - 3..], ["/a", "/dev/shm", "/a/b/c"]);
    assert_eq!(targets.iter().filter(|t| **t == "/dev/shm").count(), 1);
    let spec =
        ContainerSpec { mounts: vec![bind("/dev/"), bind("/dev/log"), bind("/sys")], ..Default::default() };
    let built = build(&spec, &image(), &SandboxSpec::default()).unwrap();
    let mounts = built.mounts().clone().unwrap();
    let targets: Vec<_> = mounts.iter().map(|m| m.destination().to_str().unwrap()).collect();
    assert_eq!(
        targets,
        ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/dev/shm", "/sys"],
        "a `/dev` comes later"
    );
    let missing = Mount { source: "/not/there".into(), target: "/x".into(), ..Default::default() };
    let spec = ContainerSpec { mounts: vec![missing], ..Default::default() };
    let error = build(&spec, &image(), &SandboxSpec::default()).unwrap_err();
    assert!(error.to_string().contains("/not/there does not exist"), "{error}");
}

#[test]
fn the_widest_propagation_wins() {
    let mount = |propagation| Mount { propagation, ..Default::default() };
    let mut spec = ContainerSpec::default();
    assert_eq!(propagation(&spec), "private");
    spec.mounts = vec![mount(Propagation::HostToContainer), mount(Propagation::Private)];
    assert_eq!(propagation(&spec), "slave");
    spec.mounts.push(mount(Propagation::Bidirectional));
    assert_eq!(propagation(&spec), "shared");
}

#[test]
fn volumes_of_the_image_stay_writable_where_nothing_else_is_mounted() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().canonicalize().unwrap().join("root");
    std::fs::create_dir_all(root.join("run")).unwrap();
    std::os::unix::fs::symlink("/run", root.join("var-run")).unwrap();
    let mount = |target: &str| Mount { source: "/".into(), target: target.into(), ..Mount::default() };
    let volumes = ["/data/", "cache", "/var-run/app", "/asked", "/asked/below", "/", "/../x"];
    let image = ImageConfig { volumes: strings(&volumes), ..ImageConfig::default() };
    let found = |readonly_rootfs| {
        let spec =
            ContainerSpec { readonly_rootfs, mounts: vec![mount("/asked")], ..ContainerSpec::default() };
        let all = image_volumes(&spec, &image, &InRoot::open(&root).unwrap()).unwrap();
        all.into_iter().map(|m| (m.target, m.source)).collect::<Vec<_>>()
    };
    let asked = (PathBuf::from("/asked"), PathBuf::from("/"));
    assert_eq!(found(false), std::slice::from_ref(&asked));
    let own = |target: &str, source: &str| (PathBuf::from(target), root.join(source));
    let expected =
        [asked, own("/data", "data"), own("/cache", "cache"), own("/var-run/app", "run/app"), own("/x", "x")];
    assert_eq!(found(true), expected);
}
