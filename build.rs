//! Writes the schemas of the built-in kinds into two files that the program carries.
//!
//! Types and descriptions come from the JSON schemas of k8s-openapi, list kinds and merge keys from the merge
//! code in its source, numbers for Protocol Buffers from `build/numbers.txt`. `builtin.schema` is read at start by `src/api/schema/load.rs`; `builtin.docs` holds the
//! descriptions, deflated, for OpenAPI only. It also tells the program when it was built.

#[path = "build/encode.rs"]
mod encode;
#[path = "build/facts.rs"]
mod facts;
#[path = "build/kinds.rs"]
mod kinds;
#[path = "build/merge.rs"]
mod merge;
#[path = "build/numbers.rs"]
mod numbers;
#[path = "build/settings.rs"]
mod settings;
#[path = "build/usage.rs"]
mod usage;

use std::error::Error;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rustc-env=KEDGE_BUILT={}", built()?);
    let source = merge::source_directory()?;
    let merges = merge::scan(&source)?;
    let (mut kinds, mut definitions) = kinds::definitions();
    settings::add(&mut kinds, &mut definitions);
    usage::add(&mut kinds, &mut definitions);
    let numbers = numbers::Numbers::parse(include_str!("build/numbers.txt"))?;
    let encoded = encode::encode(&kinds, &definitions, &merges, &numbers)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("builtin.schema"), &encoded.schema)?;
    fs::write(out.join("builtin.docs"), encode::deflate(&encoded.docs)?)?;
    Ok(())
}

/// Seconds since the epoch: no machine that runs the program has an earlier time.
fn built() -> Result<u64, Box<dyn Error>> {
    match env::var("SOURCE_DATE_EPOCH") {
        Ok(given) => Ok(given.trim().parse()?),
        Err(_) => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
    }
}
