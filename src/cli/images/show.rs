//! Answers as people read them: a table, bars while a pull goes on, one line for what was done.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::wire::{Answer, Layer, Request};
use crate::runtime::spec::Image;

/// Prints answers as they come.
pub(super) struct Shown {
    verb: &'static str,
    /// The name that was asked for.
    asked: Option<String>,
    bars: Option<MultiProgress>,
    layers: BTreeMap<String, ProgressBar>,
    /// The last state of each layer, where there are no bars.
    told: BTreeMap<String, String>,
}

impl Shown {
    pub(super) fn new(request: &Request) -> Self {
        let verb = match request {
            Request::Import { .. } => "imported",
            Request::Pull { .. } => "pulled",
            Request::List => "",
            Request::Remove { .. } | Request::Prune => "removed",
        };
        let asked = match request {
            Request::Pull { name, .. } => Some(name.clone()),
            _ => None,
        };
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { verb, asked, bars, layers: BTreeMap::new(), told: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, answer: Answer) {
        match answer {
            Answer::Progress(layers) => layers.iter().for_each(|layer| self.progress(layer)),
            Answer::Images(images) if self.verb.is_empty() => print!("{}", table(&images)),
            Answer::Images(images) => {
                self.layers.values().for_each(ProgressBar::finish_and_clear);
                for image in images {
                    let names = self.asked.clone().unwrap_or_else(|| image.tags.join(", "));
                    println!("{} {names} ({})", self.verb, size(image.size));
                }
            }
            Answer::Removed(name) => println!("removed {name}"),
            Answer::Freed(bytes) => println!("{} became free", size(bytes)),
            Answer::Error(_) | Answer::Send => {}
        }
    }

    fn progress(&mut self, layer: &Layer) {
        let Some(bars) = &self.bars else {
            if let Some(line) = line(&mut self.told, layer) {
                eprintln!("{line}");
            }
            return;
        };
        let bar = self.layers.entry(layer.digest.clone()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(layer.total));
            let template = "{prefix} {bar:30} {bytes:>10}/{total_bytes:10} {bytes_per_sec}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(short(&layer.digest).to_owned());
            bar
        });
        bar.set_length(layer.total);
        bar.set_position(layer.current);
    }
}

/// What a log should say of a layer: each of its states once.
fn line(told: &mut BTreeMap<String, String>, layer: &Layer) -> Option<String> {
    let is_new = told.insert(layer.digest.clone(), layer.state.clone()).as_ref() != Some(&layer.state);
    let (name, state, all) = (short(&layer.digest), &layer.state, size(layer.total));
    (is_new && state != "Waiting").then(|| format!("{name}: {state} ({all})"))
}

/// The first twelve digits of a digest, as people know ids.
fn short(digest: &str) -> &str {
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    digits.get(..12).unwrap_or(digits)
}

pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

pub(super) fn table(images: &[Image]) -> String {
    let mut rows: Vec<[String; 3]> = images
        .iter()
        .flat_map(|image| {
            let names = if image.tags.is_empty() { image.digests.clone() } else { image.tags.clone() };
            let names = if names.is_empty() { vec!["<none>".to_owned()] } else { names };
            names.into_iter().map(|name| [name, short(&image.id).to_owned(), size(image.size)])
        })
        .collect();
    rows.sort();
    let width = rows.iter().map(|r| r[0].len()).max().unwrap_or(0).max("IMAGE".len());
    let mut text = format!("{:width$}  {:12}  SIZE\n", "IMAGE", "ID");
    for [name, id, size] in rows {
        text.push_str(&format!("{name:width$}  {id:12}  {size}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_a_name() {
        let image = Image {
            id: format!("sha256:{}", "ab".repeat(32)),
            tags: vec!["docker.io/library/nginx:1.24".into(), "local/web:1".into()],
            digests: vec![],
            size: 12_345_678,
            user: String::new(),
        };
        let text = table(&[image]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1], "docker.io/library/nginx:1.24  abababababab  12.3 MB");
        assert!(lines[2].starts_with("local/web:1  "));
    }

    #[test]
    fn a_log_has_a_line_a_state() {
        let mut told = BTreeMap::new();
        let mut lines = Vec::new();
        for (state, current) in
            [("Waiting", 0), ("Downloading", 1), ("Downloading", 2), ("Extracting", 3), ("Pull complete", 3)]
        {
            let digest = format!("sha256:{}", "ab".repeat(32));
            lines.extend(line(&mut told, &Layer { digest, current, total: 3, state: state.into() }));
        }
        let expected = ["Downloading", "Extracting", "Pull complete"];
        assert_eq!(lines, expected.map(|state| format!("abababababab: {state} (3 B)")));
    }

    #[test]
    fn sizes_have_three_digits_or_so() {
        assert_eq!(
            [0, 999, 1_000, 2_500_000, 3_210_000_000].map(size),
            ["0 B", "999 B", "1.0 kB", "2.5 MB", "3.21 GB"]
        );
    }
}
