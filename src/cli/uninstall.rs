//! `kedge uninstall`: first [`super::killall`], then the files go. Volumes hold what users made, so
//! they are asked about.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::files::remove;
use super::options::DataDir;
use super::{Error, killall, require_root};
use crate::config::{DEFAULT_KUBECONFIG, Instance};

/// Flags of `kedge uninstall`.
#[derive(Args, Debug)]
pub struct UninstallOptions {
    #[command(flatten)]
    data_dir: DataDir,
    /// Answer every question with yes: volumes are deleted too
    #[arg(short, long)]
    yes: bool,
}

/// Where volumes with users' data lie, below the data directory (as k3s's local-path storage).
const VOLUMES: &str = "storage";

/// Stops the installation and removes its files.
///
/// # Errors
/// A right is missing, something does not stop, or a file cannot be removed.
pub fn run(options: &UninstallOptions) -> Result<(), Error> {
    require_root("kedge uninstall")?;
    let data_dir = options.data_dir.path();
    check_is_ours(&data_dir)?;
    let delete_volumes = options.yes || ask_about_volumes(&data_dir)?;
    killall::run(&data_dir)?;
    let instance = Instance::of(&data_dir);
    remove_data(&data_dir, delete_volumes)?;
    for path in service_files(&instance) {
        remove(&path)?;
    }
    if instance.name == "kedge" {
        let kubeconfig = Path::new(DEFAULT_KUBECONFIG);
        remove(kubeconfig)?;
        // Its directory may hold settings of the user's own, which stay.
        let _ = kubeconfig.parent().map(std::fs::remove_dir);
        remove_binary()?;
    }
    println!("kedge: removed");
    if !delete_volumes && data_dir.join(VOLUMES).exists() {
        println!("kedge: volumes are kept in {}", data_dir.join(VOLUMES).display());
    }
    Ok(())
}

/// A mistyped `--data-dir` must not delete somebody's directory.
fn check_is_ours(data_dir: &Path) -> Result<(), Error> {
    let ours = ["server", "agent", VOLUMES].iter().any(|d| data_dir.join(d).is_dir());
    if ours || !data_dir.exists() {
        return Ok(());
    }
    Err(format!("{} does not look like a data directory of kedge; nothing was removed", data_dir.display())
        .into())
}

fn ask_about_volumes(data_dir: &Path) -> Result<bool, Error> {
    let volumes = data_dir.join(VOLUMES);
    let empty = std::fs::read_dir(&volumes).map_or(true, |mut d| d.next().is_none());
    if empty {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        println!("kedge: keeping the volumes in {} (--yes deletes them)", volumes.display());
        return Ok(false);
    }
    print!("Delete the volumes in {} too? This cannot be undone. [y/N] ", volumes.display());
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn remove_data(data_dir: &Path, volumes_too: bool) -> Result<(), Error> {
    if volumes_too {
        return remove(data_dir);
    }
    let entries = match std::fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(format!("{}: {e}", data_dir.display()).into()),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name() != VOLUMES {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// What install.sh wrote for the machine's service manager.
fn service_files(instance: &Instance) -> Vec<PathBuf> {
    let name = &instance.name;
    vec![format!("/etc/systemd/system/{name}.service").into(), format!("/etc/init.d/{name}").into()]
}

fn remove_binary() -> Result<(), Error> {
    let executable = std::env::current_exe()?;
    // One built in a checkout is not ours to delete.
    if executable.parent() == Some(Path::new("/usr/local/bin")) {
        remove(&executable)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_kept_unless_asked_otherwise() {
        let directory = tempfile::tempdir().expect("temporary directory");
        for part in ["server/db", "agent", "storage/pvc-1"] {
            std::fs::create_dir_all(directory.path().join(part)).expect("directory");
        }
        check_is_ours(directory.path()).expect("is ours");
        remove_data(directory.path(), false).expect("removes");
        assert!(directory.path().join("storage/pvc-1").exists());
        assert!(!directory.path().join("server").exists());
        remove_data(directory.path(), true).expect("removes");
        assert!(!directory.path().exists());
        remove_data(directory.path(), true).expect("removing what is gone is no error");
    }

    #[test]
    fn a_directory_that_is_not_ours_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::write(directory.path().join("letter.txt"), "dear").expect("write");
        let error = check_is_ours(directory.path()).expect_err("refused").to_string();
        assert!(error.contains("nothing was removed"), "{error}");
    }
}
