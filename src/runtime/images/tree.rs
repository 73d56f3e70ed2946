//! A stack of unpacked layers as one tree, without mounting it: the layer being made, and those below.
//!
//! All paths are relative to the image's root, and symbolic links are followed as if that were `/`.
//! So nothing outside is ever reached, whatever an archive says.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use super::error::{Context, Error};

/// More links than this are a loop, as for the kernel.
const MAX_LINKS: usize = 40;

/// The name of the attribute that hides what is below a directory.
pub(super) const OPAQUE: &str = "trusted.overlay.opaque";

/// The stack: the layer that is written first, then those below, top first.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    layers: Vec<&'a Path>,
}

/// What one layer says about a path.
enum Answer {
    Nothing,
    Found(PathBuf, Metadata),
    /// Not here, and lower layers do not count.
    Hidden,
}

impl<'a> Tree<'a> {
    pub(super) fn new(top: &'a Path, lower: &'a [PathBuf]) -> Self {
        Self { layers: std::iter::once(top).chain(lower.iter().map(PathBuf::as_path)).collect() }
    }

    /// Where something is on disk, in which layer (0 is the one being made), and what it is. The
    /// path must have no links but in its last place.
    pub(super) fn find(&self, path: &[OsString]) -> Result<Option<(usize, PathBuf, Metadata)>, Error> {
        for (number, layer) in self.layers.iter().enumerate() {
            match look(layer, path).on(layer)? {
                Answer::Nothing => {}
                Answer::Found(path, metadata) => return Ok(Some((number, path, metadata))),
                Answer::Hidden => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The path with all links in it followed, except in what does not exist. Calls `missing` for
    /// each directory on the way that is not in the layer being made.
    pub(super) fn resolve(
        &self,
        path: &[OsString],
        mut missing: impl FnMut(&[OsString], Option<(PathBuf, Metadata)>) -> Result<(), Error>,
    ) -> Result<Vec<OsString>, Error> {
        let mut todo: VecDeque<OsString> = path.iter().cloned().collect();
        let mut done: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                // The root's parent is the root.
                done.pop();
                continue;
            }
            done.push(name);
            match self.find(&done)? {
                Some((_, found, metadata)) if metadata.is_symlink() => {
                    links += 1;
                    let target = fs::read_link(&found).on(&found)?;
                    if links > MAX_LINKS {
                        return Err(Error::io(&found, io::Error::from_raw_os_error(libc::ELOOP)));
                    }
                    done.pop();
                    if target.is_absolute() {
                        done.clear();
                    }
                    for part in parts(&target).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
                Some((0, _, metadata)) if metadata.is_dir() => {}
                Some((_, found, metadata)) if metadata.is_dir() => missing(&done, Some((found, metadata)))?,
                _ => missing(&done, None)?,
            }
        }
        Ok(done)
    }
}

/// The names of a link's target; `..` stays.
fn parts(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|c| match c {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}

/// The names of an entry's path. `None` if it would leave the root.
pub(super) fn clean(path: &[u8]) -> Option<Vec<OsString>> {
    let mut names = Vec::new();
    for component in Path::new(OsStr::from_bytes(path)).components() {
        match component {
            Component::Normal(name) => names.push(name.to_owned()),
            Component::ParentDir => drop(names.pop()?),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(names)
}

fn look(layer: &Path, path: &[OsString]) -> io::Result<Answer> {
    let mut at = layer.to_owned();
    let mut opaque = false;
    let absent = |opaque| if opaque { Answer::Hidden } else { Answer::Nothing };
    for (n, name) in path.iter().enumerate() {
        at.push(name);
        let metadata = match fs::symlink_metadata(&at) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(absent(opaque)),
            metadata => metadata?,
        };
        if is_whiteout(&metadata) {
            return Ok(Answer::Hidden);
        }
        if n + 1 == path.len() {
            return Ok(Answer::Found(at, metadata));
        }
        if !metadata.is_dir() {
            return Ok(Answer::Hidden);
        }
        opaque |= xattr::get(&at, OPAQUE)?.is_some_and(|value| value == b"y");
    }
    let metadata = fs::symlink_metadata(&at)?;
    Ok(Answer::Found(at, metadata))
}

/// Whether overlayfs takes this for a deletion.
pub(super) fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<OsString> {
        clean(path.as_bytes()).unwrap()
    }

    #[test]
    fn entries_that_leave_the_root_are_told() {
        assert_eq!(clean(b"../x"), None);
        assert_eq!(clean(b"a/../../x"), None);
        assert_eq!(clean(b"/a/./b/../c/").unwrap(), names("a/c"));
        assert!(clean(b"./").unwrap().is_empty());
    }

    #[test]
    fn links_are_followed_inside_and_across_layers() {
        let dir = tempfile::tempdir().unwrap();
        let (top, low) = (dir.path().join("top"), vec![dir.path().join("low")]);
        fs::create_dir_all(&top).unwrap();
        fs::create_dir_all(low[0].join("usr/lib")).unwrap();
        for (target, link) in
            [("usr/lib", "lib"), ("../../../..", "up"), ("/usr", "absolute"), ("loop", "loop")]
        {
            std::os::unix::fs::symlink(target, low[0].join(link)).unwrap();
        }
        let tree = Tree::new(&top, &low);
        let resolve = |path: &str| {
            let mut missing = Vec::new();
            let resolved = tree.resolve(&names(path), |path, found| {
                missing.push((path.to_vec(), found.is_some()));
                Ok(())
            });
            resolved.map(|resolved| (resolved, missing))
        };
        let (path, missing) = resolve("lib/x").unwrap();
        assert_eq!(path, names("usr/lib/x"));
        assert_eq!(missing, [(names("usr"), true), (names("usr/lib"), true), (names("usr/lib/x"), false)]);
        assert_eq!(resolve("up/etc").unwrap().0, names("etc"));
        assert_eq!(resolve("absolute/lib").unwrap().0, names("usr/lib"));
        assert!(resolve("loop/x").is_err());
    }
}
