//! The way through indexes, also nested ones, to the manifest for this machine.

use std::collections::{BTreeSet, VecDeque};

use super::error::Error;
use super::manifest::Descriptor;
use super::platform::Platform;

/// The way through indexes, also nested ones, to a manifest for a platform.
pub(super) struct Search {
    name: String,
    host: Platform,
    /// What to look at next, and how deep it lies.
    todo: VecDeque<(Descriptor, u32)>,
    seen: BTreeSet<String>,
    /// Platforms there are, for the error.
    platforms: BTreeSet<String>,
}

/// Indexes in indexes in indexes; more are no image.
const MAX_DEPTH: u32 = 4;
/// Documents looked at for one image.
const MAX_DOCUMENTS: usize = 64;

impl Search {
    /// A search that begins with `first`.
    pub(super) fn new(name: &str, host: Platform, first: &[Descriptor]) -> Self {
        let mut search = Self {
            name: name.to_owned(),
            host,
            todo: VecDeque::new(),
            seen: BTreeSet::new(),
            platforms: BTreeSet::new(),
        };
        search.push(first, 0);
        search
    }

    /// The next document to look at, and its depth. When there is none left, an error that says which
    /// platforms there are.
    pub(super) fn next(&mut self) -> Result<(Descriptor, u32), Error> {
        while let Some((descriptor, depth)) = self.todo.pop_front() {
            if self.seen.len() < MAX_DOCUMENTS && self.seen.insert(descriptor.digest.clone()) {
                return Ok((descriptor, depth));
            }
        }
        let found: Vec<_> = self.platforms.iter().cloned().collect();
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        Err(Error::NoPlatform { name: self.name.clone(), wanted: self.host.to_string(), found })
    }

    /// Adds what an index at `depth` has: what fits best first, of equal ones the first, then what does
    /// not say what it is for.
    pub(super) fn push(&mut self, manifests: &[Descriptor], depth: u32) {
        let mut fitting: Vec<(u32, &Descriptor)> = Vec::new();
        for descriptor in manifests {
            match &descriptor.platform {
                Some(platform) if platform.is_known() => {
                    self.platforms.insert(platform.to_string());
                    fitting.extend(self.host.fit(platform).map(|fit| (fit, descriptor)));
                }
                // Such as attestations.
                Some(_) => {}
                None => fitting.push((u32::MAX, descriptor)),
            }
        }
        fitting.sort_by_key(|(fit, _)| *fit);
        if depth < MAX_DEPTH {
            for (_, descriptor) in fitting.into_iter().rev() {
                self.todo.push_front((descriptor.clone(), depth + 1));
            }
        }
    }

    /// Whether the configuration of a manifest that was found through `descriptor` is for here.
    pub(super) fn accepts(&mut self, descriptor: Option<&Descriptor>, platform: &Platform) -> bool {
        let told = descriptor.is_some_and(|d| d.platform.is_some());
        let fits = !platform.is_known() || self.host.runs(platform);
        if !fits && !told {
            self.platforms.insert(platform.to_string());
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform { os: next(), architecture: next(), variant: next() }
    }

    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        let descriptor = |text: &&str| Descriptor {
            digest: (*text).to_owned(),
            platform: (!text.starts_with('@')).then(|| platform(text)),
            ..Descriptor::default()
        };
        platforms.iter().map(descriptor).collect()
    }

    /// What is looked at, in order, and the error in the end.
    fn order(host: &str, platforms: &[&str]) -> (Vec<String>, String) {
        let mut search = Search::new("x", platform(host), &index(platforms));
        let mut found = Vec::new();
        loop {
            match search.next() {
                Ok((descriptor, _)) => found.push(descriptor.digest),
                Err(error) => return (found, error.to_string()),
            }
        }
    }

    #[test]
    fn the_best_platform_comes_first() {
        let all = [
            "windows/amd64",
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/arm/v6",
            "linux/amd64/v3",
            "linux/386",
            "linux/amd64",
            "linux/arm64/v8",
            "unknown/unknown",
        ];
        for (host, expected) in [
            ("linux/amd64", vec!["linux/amd64", "linux/386"]),
            ("linux/arm64/v8", vec!["linux/arm64/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
            ("linux/arm/v7", vec!["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
            ("linux/arm/v6", vec!["linux/arm/v6", "linux/arm/v5"]),
            ("linux/arm/v5", vec!["linux/arm/v5"]),
            ("linux/riscv64", vec![]),
        ] {
            assert_eq!(order(host, &all).0, expected, "{host}");
        }
        let odd = ["linux/x86_64", "linux/arm64", "linux/aarch64/8", "linux/arm"];
        assert_eq!(order("linux/amd64", &odd).0, ["linux/x86_64"]);
        assert_eq!(order("linux/arm64/v8", &odd).0, ["linux/arm64", "linux/aarch64/8", "linux/arm"]);
        assert_eq!(order("linux/arm/v6", &odd).0, [""; 0]);
    }

    #[test]
    fn the_error_says_what_there_is() {
        let error = order("linux/arm/v7", &["windows/amd64", "unknown/unknown", "linux/amd64"]).1;
        assert_eq!(
            error,
            "no match for platform linux/arm/v7 in image \"x\": it has linux/amd64, windows/amd64"
        );
        assert!(order("linux/arm/v7", &["unknown/unknown"]).1.ends_with("it has none"));
    }

    #[test]
    fn what_says_nothing_is_looked_at_last_and_loops_end() {
        assert_eq!(order("linux/amd64", &["@nested", "linux/amd64"]).0, ["linux/amd64", "@nested"]);
        let mut search = Search::new("x", platform("linux/amd64"), &index(&["@a"]));
        let mut looked = 0;
        while let Ok((_, depth)) = search.next() {
            looked += 1;
            search.push(&index(&["@a", &format!("@{looked}")]), depth);
        }
        assert_eq!(looked, MAX_DEPTH);
        let mut wide = Search::new("x", platform("linux/amd64"), &[]);
        let names: Vec<String> = (0..1000).map(|n| format!("@{n}")).collect();
        wide.push(&index(&names.iter().map(String::as_str).collect::<Vec<_>>()), 0);
        assert_eq!(std::iter::from_fn(|| wide.next().ok()).count(), MAX_DOCUMENTS);
    }
}
