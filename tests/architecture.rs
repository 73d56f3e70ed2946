//! The borders crates would draw, held by a test: who may import whom, no cycles, sizes.
//! The table is the one of docs/architecture.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// Room → rooms of ours it may import.
const TABLE: &[(&str, &[&str])] = &[
    ("store", &[]),
    ("runtime", &[]),
    ("network", &[]),
    ("api", &[]),
    ("config", &[]),
    ("supervisor", &[]),
    ("client", &["api"]),
    ("server", &["store", "client", "api", "config", "supervisor"]),
    ("agent", &["runtime", "network", "client", "api", "config", "supervisor"]),
    ("cli", &["server", "agent", "config", "supervisor", "client", "runtime", "network"]),
    ("main", &["cli", "runtime", "store"]),
    ("lib", &[]),
];

/// Sub-rooms of `server` that reach the cluster only through its API, so that admission and RBAC apply.
const CLIENTS_OF_THE_SERVER: &[&str] = &["scheduler", "controllers", "addons"];
const CLIENTS_MAY_IMPORT: &[&str] = &["client", "api", "supervisor"];

const FILE_CAP: usize = 800;
const FILE_P90: usize = 400;
const FILE_MEDIAN: usize = 150;
const FUNCTION_CAP: usize = 100;
const MAIN_CAP: usize = 150;

struct Source {
    path: PathBuf,
    /// `["server", "http", "watch"]` for src/server/http/watch.rs.
    module: Vec<String>,
    /// Absolute module paths this file names, outside tests.
    imports: BTreeSet<Vec<String>>,
    lines: usize,
    functions: Vec<(String, usize)>,
    unsafe_blocks: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.iter().filter(|f| !is_test_file(f)).map(|f| read(&root, f)).collect()
}

fn collect(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("src is readable") {
        let path = entry.expect("entry is readable").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

fn is_test_file(path: &Path) -> bool {
    path.components().any(|c| {
        let name = c.as_os_str().to_string_lossy();
        name == "tests" || name == "tests.rs" || name.ends_with("_tests.rs")
    })
}

fn read(root: &Path, path: &Path) -> Source {
    let text = fs::read_to_string(path).expect("source is readable");
    let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let relative = path.strip_prefix(root).expect("below src").with_extension("");
    let mut module: Vec<String> = relative.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|m| m == "mod") {
        module.pop();
    }
    let mut visitor = Visitor { module: module.clone(), ..Visitor::default() };
    visitor.visit_file(&file);
    let test_lines = visitor.test_lines;
    Source {
        path: path.to_owned(),
        module,
        imports: visitor.imports,
        lines: text.lines().count().saturating_sub(test_lines),
        functions: visitor.functions,
        unsafe_blocks: visitor.unsafe_blocks,
    }
}

#[derive(Default)]
struct Visitor {
    module: Vec<String>,
    imports: BTreeSet<Vec<String>>,
    functions: Vec<(String, usize)>,
    test_lines: usize,
    unsafe_blocks: usize,
}

impl Visitor {
    fn name(&mut self, segments: &[String]) {
        let mut rest = segments;
        let mut base = match rest.first().map(String::as_str) {
            Some("crate" | "kedge") => Vec::new(),
            Some("self" | "super") => self.module.clone(),
            _ => return,
        };
        while let Some(first) = rest.first() {
            match first.as_str() {
                "super" => {
                    base.pop();
                }
                "self" | "crate" | "kedge" => {}
                _ => break,
            }
            rest = &rest[1..];
        }
        base.extend(rest.iter().cloned());
        self.imports.insert(base);
    }

    fn use_tree(&mut self, tree: &syn::UseTree, prefix: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(p) => {
                prefix.push(p.ident.to_string());
                self.use_tree(&p.tree, prefix);
                prefix.pop();
            }
            syn::UseTree::Group(g) => g.items.iter().for_each(|t| self.use_tree(t, prefix)),
            syn::UseTree::Name(n) => {
                let mut full = prefix.clone();
                full.push(n.ident.to_string());
                self.name(&full);
            }
            syn::UseTree::Rename(r) => {
                let mut full = prefix.clone();
                full.push(r.ident.to_string());
                self.name(&full);
            }
            syn::UseTree::Glob(_) => self.name(&prefix.clone()),
        }
    }

    fn function(&mut self, name: &syn::Ident, block: &syn::Block) {
        use syn::spanned::Spanned;
        let span = block.span();
        self.functions.push((name.to_string(), span.end().line - span.start().line + 1));
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("test")
            || (a.path().is_ident("cfg") && a.parse_args::<syn::Path>().is_ok_and(|p| p.is_ident("test")))
    })
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        use syn::spanned::Spanned;
        if is_test(&item.attrs) {
            let span = item.span();
            self.test_lines += span.end().line - span.start().line + 1;
            return;
        }
        self.module.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.use_tree(&item.tree, &mut Vec::new());
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if segments.len() > 1 {
            self.name(&segments);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            self.function(&item.sig.ident, &item.block);
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            self.function(&item.sig.ident, &item.block);
            syn::visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_expr_unsafe(&mut self, item: &'ast syn::ExprUnsafe) {
        self.unsafe_blocks += 1;
        syn::visit::visit_expr_unsafe(self, item);
    }
}

/// The rooms a file imports, and through which path.
fn rooms(source: &Source) -> BTreeMap<&str, &Vec<String>> {
    let known: BTreeSet<&str> = TABLE.iter().map(|(name, _)| *name).collect();
    let imports = source.imports.iter();
    imports.filter_map(|i| Some((*known.get(i.first()?.as_str())?, i))).collect()
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let mut errors = Vec::new();
    for source in sources() {
        let room = source.module[0].as_str();
        let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == room) else {
            errors.push(format!("{}: the room {room:?} is not in the table", source.path.display()));
            continue;
        };
        let strict = room == "server"
            && source.module.get(1).is_some_and(|m| CLIENTS_OF_THE_SERVER.contains(&m.as_str()));
        for (other, path) in rooms(&source) {
            if strict && other == "server" {
                let sub = path.get(1).map(String::as_str);
                if sub.is_some_and(|s| !CLIENTS_OF_THE_SERVER.contains(&s)) {
                    errors.push(format!("{} imports {}", source.path.display(), path.join("::")));
                }
            } else if other != room {
                let allowed = if strict { CLIENTS_MAY_IMPORT } else { allowed };
                if !allowed.contains(&other) {
                    errors.push(format!("{} imports {}", source.path.display(), path.join("::")));
                }
            }
        }
    }
    assert!(errors.is_empty(), "forbidden imports:\n{}", errors.join("\n"));
}

/// Names the way back to `start`, if there is one.
fn cycle(graph: &BTreeMap<String, BTreeSet<String>>, start: &str) -> Option<Vec<String>> {
    let mut stack = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while let Some(path) = stack.pop() {
        let last = path.last().expect("a path is not empty");
        for next in graph.get(last).into_iter().flatten() {
            let mut longer = path.clone();
            longer.push(next.clone());
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                stack.push(longer);
            }
        }
    }
    None
}

fn assert_acyclic(what: &str, graph: &BTreeMap<String, BTreeSet<String>>) {
    for start in graph.keys() {
        if let Some(path) = cycle(graph, start) {
            panic!("{what} form a cycle: {}", path.join(" -> "));
        }
    }
}

#[test]
fn rooms_form_no_cycle() {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        let room = source.module[0].clone();
        let others = rooms(&source).into_keys().filter(|r| *r != room).map(str::to_owned);
        graph.entry(room.clone()).or_default().extend(others.collect::<Vec<_>>());
    }
    assert_acyclic("rooms", &graph);
}

#[test]
fn parts_of_a_room_form_no_cycle() {
    let sources = sources();
    let parts: BTreeSet<(String, String)> =
        sources.iter().filter_map(|s| Some((s.module[0].clone(), s.module.get(1)?.clone()))).collect();
    let mut graphs: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for source in &sources {
        let (Some(room), Some(part)) = (source.module.first(), source.module.get(1)) else { continue };
        for import in &source.imports {
            let (Some(to_room), Some(to_part)) = (import.first(), import.get(1)) else { continue };
            let is_part = parts.contains(&(to_room.clone(), to_part.clone()));
            if to_room == room && to_part != part && is_part {
                let graph = graphs.entry(room.clone()).or_default();
                graph.entry(part.clone()).or_default().insert(to_part.clone());
            }
        }
    }
    for (room, graph) in graphs {
        assert_acyclic(&format!("parts of {room}"), &graph);
    }
}

#[test]
fn files_and_functions_stay_small() {
    let sources = sources();
    let mut errors = Vec::new();
    for source in &sources {
        let cap = if source.module == ["main"] { MAIN_CAP } else { FILE_CAP };
        if source.lines > cap {
            errors.push(format!("{}: {} lines, at most {cap}", source.path.display(), source.lines));
        }
        for (name, lines) in source.functions.iter().filter(|(_, lines)| *lines > FUNCTION_CAP) {
            errors
                .push(format!("{}: fn {name}: {lines} lines, at most {FUNCTION_CAP}", source.path.display()));
        }
    }
    let mut sizes: Vec<usize> = sources.iter().map(|s| s.lines).collect();
    sizes.sort_unstable();
    for (what, share, most) in [("median", 50, FILE_MEDIAN), ("90th percentile", 90, FILE_P90)] {
        let size = sizes[(sizes.len() - 1) * share / 100];
        if size > most {
            errors.push(format!("{what} of files: {size} lines, at most {most}"));
        }
    }
    assert!(errors.is_empty(), "too large:\n{}", errors.join("\n"));
}

#[test]
fn unsafe_code_lives_in_sys_files_and_says_why_it_is_sound() {
    let allowed = ["src/runtime/sys.rs", "src/network/sys.rs"];
    for source in sources() {
        let path = source.path.display().to_string();
        let is_sys = allowed.iter().any(|a| path.ends_with(a));
        assert!(is_sys || source.unsafe_blocks == 0, "{path} has unsafe code");
        if is_sys {
            let text = fs::read_to_string(&source.path).expect("source is readable");
            let reasons = text.matches("SAFETY:").count();
            assert!(
                reasons >= source.unsafe_blocks,
                "{path}: {} unsafe blocks, {reasons} SAFETY comments",
                source.unsafe_blocks
            );
        }
    }
}

#[test]
fn the_readers_of_imports_see_them() {
    let file: syn::File = syn::parse_quote! {
        use crate::store::{Store, self};
        use super::super::api as other;
        mod inner { fn f() { super::g(); crate::network::x(); } }
        #[cfg(test)]
        mod tests { use crate::agent::Agent; }
    };
    let mut visitor = Visitor { module: vec!["server".into(), "http".into()], ..Visitor::default() };
    visitor.visit_file(&file);
    let found: BTreeSet<String> = visitor.imports.iter().map(|i| i.join("::")).collect();
    for expected in ["store::Store", "api", "network::x", "server::http::g"] {
        assert!(found.contains(expected), "{expected} not in {found:?}");
    }
    assert!(!found.iter().any(|i| i.starts_with("agent")), "tests may import anything: {found:?}");
}
