//! Scripts of commands and what they print.
//!
//! A line that begins with `$ ` is a shell command, lines that begin with `> ` continue it, and what
//! follows is its output, both streams together:
//!
//! ```text
//! # Only from this version of kubectl on; `@until 1.31` is the opposite.
//! @since 1.29
//! $ kubectl get nosuch
//! error: the server doesn't have a resource type "nosuch"
//! [1]
//! ```
//!
//! In an output `*` stands for any text within a line, a line `...` for any lines, and one run of blanks
//! is as good as another. `[N]` as the last line is the exit status, 0 without it. After `@until-so` the
//! command is repeated until it prints what it should: controllers and nodes take their time. What comes
//! after `@newest` is for the newest kubectl at hand alone: it takes long and depends on the server.

use std::fmt::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// So long a step may be repeated.
const PATIENCE: Duration = Duration::from_secs(60);

/// One command of a script.
#[derive(Debug, Default, PartialEq)]
pub struct Step {
    /// Its line in the script.
    pub line: usize,
    /// The shell command.
    pub command: String,
    /// The lines it is to print.
    expected: Vec<String>,
    /// The exit status it is to end with.
    status: i32,
    since: Option<u32>,
    until: Option<u32>,
    newest: bool,
    repeat: bool,
}

/// Reads a script.
pub fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut pending = Step::default();
    // A comment stands at the start or after an empty line: an output may look like one.
    let mut apart = true;
    for (number, line) in text.lines().enumerate() {
        if apart && line.starts_with("# ") {
            continue;
        }
        apart = line.is_empty();
        if let Some(command) = line.strip_prefix("$ ") {
            let step = std::mem::take(&mut pending);
            steps.push(Step { line: number + 1, command: command.to_owned(), ..step });
        } else if let Some(more) = line.strip_prefix("> ").or_else(|| (line == ">").then_some("")) {
            let step = steps.last_mut().expect("a command comes before its continuation");
            step.command.extend(["\n", more]);
        } else if let Some(directive) = line.strip_prefix('@') {
            match directive.split_once(' ') {
                Some(("since", version)) => pending.since = Some(minor(version)),
                Some(("until", version)) => pending.until = Some(minor(version)),
                _ if directive == "until-so" => pending.repeat = true,
                _ if directive == "newest" => pending.newest = true,
                _ => panic!("line {}: unknown directive {line}", number + 1),
            }
        } else if let Some(step) = steps.last_mut() {
            step.expected.push(line.to_owned());
        } else {
            assert!(line.is_empty(), "line {}: no command comes before {line}", number + 1);
        }
    }
    for step in &mut steps {
        while step.expected.last().is_some_and(String::is_empty) {
            step.expected.pop();
        }
        let status = step.expected.last().and_then(|l| l.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
        if let Some(status) = status {
            step.status = status;
            step.expected.pop();
        }
    }
    steps
}

/// The minor number of `1.29` or `v1.29.3`.
pub fn minor(version: &str) -> u32 {
    let minor = version.trim_start_matches('v').split('.').nth(1);
    minor.and_then(|m| m.parse().ok()).unwrap_or_else(|| panic!("{version:?} is no version of kubectl"))
}

impl Step {
    /// Whether a kubectl of this minor version is to run it, where `newest` is the newest there is.
    pub fn applies(&self, version: u32, newest: u32) -> bool {
        self.since.is_none_or(|since| version >= since)
            && self.until.is_none_or(|until| version <= until)
            && (!self.newest || version == newest)
    }

    /// Runs the command with a shell made by `shell`.
    ///
    /// # Errors
    /// What it printed, and what it should have.
    pub fn run(&self, shell: impl Fn() -> Command) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut command = shell();
            command.args(["-c", &format!("exec 2>&1\n{}", self.command)]).stdin(Stdio::null());
            let output = command.output().expect("bash runs");
            match self.check(&output) {
                Err(_) if self.repeat && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                result => return result,
            }
        }
    }

    fn check(&self, output: &Output) -> Result<(), String> {
        let text = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = text.trim_end().lines().collect();
        let expected: Vec<&str> = self.expected.iter().map(String::as_str).collect();
        let status = output.status.code().unwrap_or(-1);
        if lines_match(&expected, &lines) && status == self.status {
            return Ok(());
        }
        let mut message = format!("line {}: $ {}\n", self.line, self.command);
        let _ = write!(message, "--- it printed, status {status}\n{}\n", text.trim_end());
        let _ = write!(message, "--- expected, status {}\n{}", self.status, self.expected.join("\n"));
        Err(message)
    }
}

fn lines_match(expected: &[&str], lines: &[&str]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((&"...", rest)) => (0..=lines.len()).any(|skipped| lines_match(rest, &lines[skipped..])),
        Some((pattern, rest)) => lines.split_first().is_some_and(|(line, others)| {
            matches(&squeeze(pattern), &squeeze(line)) && lines_match(rest, others)
        }),
    }
}

fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether `*` in the pattern can stand for something that makes it the line.
fn matches(pattern: &str, line: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == line };
    let Some(mut tail) = line.strip_prefix(head) else { return false };
    loop {
        if matches(rest, tail) {
            return true;
        }
        let mut chars = tail.chars();
        if chars.next().is_none() {
            return false;
        }
        tail = chars.as_str();
    }
}

/// What the matcher must be able to tell apart, checked before it is relied on.
pub fn check_itself() {
    let text =
        "# c\n# d\n\n@since 1.29\n@until-so\n$ cat <<E\n> a\n>\n> E\na\n# b\n\nc\n[3]\n\n# e\n$ true\n";
    let steps = parse(text);
    assert_eq!((steps.len(), &*steps[0].command, steps[0].status), (2, "cat <<E\na\n\nE", 3));
    assert_eq!(steps[0].expected, ["a", "# b", "", "c"]);
    assert!(
        steps[0].applies(29, 36) && !steps[0].applies(28, 36) && steps[1].applies(1, 36) && steps[0].repeat
    );
    for (expected, lines, outcome) in [
        (&["a  *", "..."][..], &["a b c", "d"][..], true),
        (&["a", "..."], &["a"], true),
        (&["a"], &["a", "b"], false),
        (&["...", "z"], &["a", "b"], false),
        (&["*x*y"], &["axbxcy"], true),
        (&["*x*y"], &["axbxc"], false),
        (&[], &["a"], false),
    ] {
        assert_eq!(lines_match(expected, lines), outcome, "{expected:?} {lines:?}");
    }
}
