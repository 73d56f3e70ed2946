//! Reads the role tables beside it; see `roles.txt` for their format.

use std::collections::BTreeMap;

use crate::server::auth::authz::rbac::Rule;

/// A role of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its rules; of one that collects, those of its parts.
    pub rules: Vec<Rule>,
    /// It is a part of these.
    pub part_of: Vec<String>,
    /// It is the sum of the parts of this.
    pub collects: Option<String>,
}

/// The roles of a table, in its order.
pub fn roles(table: &str) -> Vec<Role> {
    let mut roles: Vec<Role> = Vec::new();
    for line in table.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            roles.push(Role { name: name.to_owned(), ..Role::default() });
            continue;
        }
        let Some(role) = roles.last_mut() else { continue };
        match line.split_once(' ') {
            Some(("aggregate", of)) => role.part_of.extend(of.split(' ').map(str::to_owned)),
            Some(("collects", what)) => role.collects = Some(what.to_owned()),
            _ => role.rules.push(rule(line)),
        }
    }
    collect(&mut roles);
    roles
}

/// Gives roles that collect the rules of their parts, which may collect too.
fn collect(roles: &mut [Role]) {
    let parts: BTreeMap<String, Vec<usize>> =
        roles.iter().enumerate().fold(BTreeMap::new(), |mut map, (i, role)| {
            for of in &role.part_of {
                map.entry(of.clone()).or_default().push(i);
            }
            map
        });
    // Innermost first: view before edit before admin, the reverse of the table's order.
    for i in (0..roles.len()).rev() {
        let Some(of) = &roles[i].collects else { continue };
        let mut rules: Vec<Rule> = Vec::new();
        for rule in parts.get(of).into_iter().flatten().flat_map(|&part| &roles[part].rules) {
            // A role may be a part of several that are parts of each other.
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
        roles[i].rules = rules;
    }
}

fn rule(line: &str) -> Rule {
    let mut words = line.split_whitespace();
    let verbs = words.next().unwrap_or_default();
    if verbs == "events" {
        return rule("create,update,patch @,events.k8s.io events");
    }
    let mut rule =
        Rule { verbs: verbs.split(',').flat_map(expand).map(str::to_owned).collect(), ..Rule::default() };
    for word in words {
        if let Some(groups) = word.strip_prefix('@') {
            rule.api_groups = groups.split(',').map(str::to_owned).collect();
        } else if let Some(name) = word.strip_prefix('=') {
            rule.resource_names.push(name.to_owned());
        } else if rule.api_groups.is_empty() {
            rule.non_resource_urls.push(word.to_owned());
        } else {
            rule.resources.push(word.to_owned());
        }
    }
    rule
}

fn expand(verb: &str) -> Vec<&str> {
    match verb {
        "read" => vec!["get", "list", "watch"],
        "write" => vec!["create", "update", "patch", "delete", "deletecollection"],
        verb => vec![verb],
    }
}
