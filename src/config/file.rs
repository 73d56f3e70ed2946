//! `config.yaml` and `config.yaml.d/*.yaml`: settings by flag name, as k3s reads them.

use std::path::{Path, PathBuf};

use serde_yaml::Value;

use super::{Error, Layer};

/// Reads `path` and the files of `<path>.d`, weakest first.
///
/// A key is a flag's name without dashes; a list gives a repeatable flag several values; a key
/// ending in `+` adds to lower layers. `known` are the settings that exist; any other is an error.
///
/// # Errors
/// A file that cannot be read, is no YAML map, or has an unknown key. A missing `path` is only an
/// error if `required`.
pub fn load(path: &Path, required: bool, known: &[String]) -> Result<Vec<Layer>, Error> {
    let mut layers = Vec::new();
    match std::fs::read_to_string(path) {
        Ok(text) => layers.push(parse(path, &text, known)?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => {}
        Err(e) => return Err(Error::File { path: path.to_owned(), problem: e.to_string() }),
    }
    let mut directory = path.as_os_str().to_owned();
    directory.push(".d");
    for file in yaml_files(Path::new(&directory))? {
        let text = std::fs::read_to_string(&file)
            .map_err(|e| Error::File { path: file.clone(), problem: e.to_string() })?;
        layers.push(parse(&file, &text, known)?);
    }
    Ok(layers)
}

fn yaml_files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::File { path: directory.to_owned(), problem: e.to_string() }),
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "yaml" || e == "yml"))
        .collect();
    files.sort();
    Ok(files)
}

fn parse(path: &Path, text: &str, known: &[String]) -> Result<Layer, Error> {
    let fail = |problem: String| Error::File { path: path.to_owned(), problem };
    let mut layer = Layer { origin: path.display().to_string(), ..Layer::default() };
    let map = match serde_yaml::from_str(text).map_err(|e| fail(e.to_string()))? {
        Value::Null => return Ok(layer),
        Value::Mapping(map) => map,
        _ => return Err(fail("expected a map of settings, such as `cluster-cidr: 10.42.0.0/16`".into())),
    };
    for (key, value) in map {
        let Value::String(key) = key else {
            return Err(fail(format!("a setting's name must be a string, not {key:?}")));
        };
        let (name, append) = match key.strip_suffix('+') {
            Some(name) => (name, true),
            None => (key.as_str(), false),
        };
        let name = name.trim_start_matches('-').to_owned();
        if !known.contains(&name) {
            return Err(fail(format!("unknown setting {name:?}; `kedge server --help` lists all")));
        }
        let values = match value {
            Value::Sequence(items) => items.iter().map(scalar).collect::<Option<Vec<_>>>(),
            other => scalar(&other).map(|v| vec![v]),
        };
        let values = values.ok_or_else(|| fail(format!("{name}: expected a value or a list of values")))?;
        if append { &mut layer.append } else { &mut layer.values }.insert(name, values);
    }
    Ok(layer)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}
