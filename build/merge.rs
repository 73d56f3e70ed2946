//! Reads list kinds and merge keys from the source of k8s-openapi.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::facts::ListFacts;

/// What the merge code of one definition says: by the JSON name of the field.
#[derive(Default)]
pub struct Merge {
    pub lists: BTreeMap<String, ListFacts>,
    /// Maps that are set as a whole.
    pub atomic_maps: Vec<String>,
}

const PACKAGE: &str = "k8s-openapi";

/// By the name of the definition.
pub type Merges = BTreeMap<String, Merge>;

/// Where the source of k8s-openapi lies. Cargo knows, unless it misses crates that this build does not need (those
/// of the tests); then the source is where cargo unpacks what it downloads.
pub fn source_directory() -> Result<PathBuf, Box<dyn Error>> {
    let root = match package_by_metadata() {
        Ok(root) => root,
        Err(error) => package_in_registry().map_err(|second| format!("{error}; {second}"))?,
    };
    Ok(root.join("src").join("v1_36"))
}

fn package_by_metadata() -> Result<PathBuf, Box<dyn Error>> {
    let output = Command::new(std::env::var("CARGO")?)
        .args([
            "metadata",
            "--offline",
            "--format-version",
            "1",
            "--filter-platform",
            &std::env::var("TARGET")?,
        ])
        .current_dir(std::env::var("CARGO_MANIFEST_DIR")?)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|p| p["name"] == PACKAGE)
        .and_then(|p| p["manifest_path"].as_str())
        .ok_or("cargo metadata does not name k8s-openapi")?;
    Ok(Path::new(manifest).parent().ok_or("k8s-openapi has no directory")?.to_owned())
}

fn package_in_registry() -> Result<PathBuf, Box<dyn Error>> {
    let lock = fs::read_to_string(Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("Cargo.lock"))?;
    let version = between(&lock, &format!("name = \"{PACKAGE}\"\nversion = \""), "\"")
        .ok_or("Cargo.lock does not name k8s-openapi")?;
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| home + "/.cargo"))?;
    let registries = Path::new(&home).join("registry").join("src");
    for registry in fs::read_dir(&registries).map_err(|e| format!("{}: {e}", registries.display()))? {
        let package = registry?.path().join(format!("{PACKAGE}-{version}"));
        if package.is_dir() {
            return Ok(package);
        }
    }
    Err(format!("{PACKAGE} {version} is not below {}", registries.display()).into())
}

/// Reads every source file below a directory.
pub fn scan(directory: &Path) -> Result<Merges, Box<dyn Error>> {
    let mut merges = Merges::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if let Some((definition, merge)) = read(&fs::read_to_string(&path)?) {
                merges.insert(definition, merge);
            }
        }
    }
    if merges.values().all(|m| m.lists.is_empty()) {
        return Err("no merge code was found in k8s-openapi".into());
    }
    Ok(merges)
}

/// Reads one file; `None` if it holds no type.
fn read(source: &str) -> Option<(String, Merge)> {
    let definition = between(source, "fn schema_name()", "}").and_then(|s| between(s, "\"", "\""))?;
    let code = between(source, "impl crate::DeepMerge for", "\n}\n")?;
    let names = json_names(source);
    let mut merge = Merge::default();
    for call in code.split("crate::merge_strategies::").skip(1) {
        let Some(field) =
            between(call, "&mut self.", ",").and_then(|f| names.get(f.trim_start_matches("r#")))
        else {
            continue;
        };
        let field = (*field).to_owned();
        if call.starts_with("list::atomic") {
            merge.lists.insert(field, ListFacts { list_type: "atomic", ..ListFacts::default() });
        } else if call.starts_with("list::set") {
            merge.lists.insert(field, ListFacts { list_type: "set", ..ListFacts::default() });
        } else if call.starts_with("list::map") {
            let keys = between(call, "&[", "],").unwrap_or_default();
            let keys =
                keys.split("lhs.").skip(1).filter_map(|k| k.split(" ==").next()).map(str::to_owned).collect();
            merge.lists.insert(field, ListFacts { list_type: "map", keys, ..ListFacts::default() });
        } else if call.starts_with("map::atomic") {
            merge.atomic_maps.push(field);
        }
    }
    Some((definition.to_owned(), merge))
}

/// JSON names by Rust names, from the lines `"hostIPC" => Field::Key_host_ipc,`.
fn json_names(source: &str) -> BTreeMap<&str, &str> {
    let pairs = source.lines().filter_map(|line| {
        let (json, rust) = line.trim().strip_prefix('"')?.split_once("\" => Field::Key_")?;
        Some((rust.trim_end_matches(','), json))
    });
    pairs.collect()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let from = text.find(start)? + start.len();
    let to = text[from..].find(end)?;
    Some(&text[from..from + to])
}
