//! Who a container's process runs as: numbers from the specification, or names from the image's
//! configuration looked up in the root file system's own `/etc/passwd` and `/etc/group`.

use super::in_root::InRoot;
use crate::runtime::error::Error;

/// Longest `/etc/passwd` or `/etc/group` that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// A process's identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplemental groups.
    pub groups: Vec<u32>,
    /// Home directory, for `HOME`.
    pub home: String,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// `user[:group]` of the image; empty is root.
    pub image: &'a str,
    /// Instead of the image's user.
    pub uid: Option<u32>,
    /// Instead of the image's group.
    pub gid: Option<u32>,
    /// Added to the groups.
    pub groups: &'a [u32],
    /// Leave out the groups that `/etc/group` has for the user.
    pub strict: bool,
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd(text: &str) -> impl Iterator<Item = Passwd<'_>> {
    text.lines().filter_map(|line| {
        let mut parts = line.split(':');
        let (name, uid, gid) = (parts.next()?, parts.nth(1)?, parts.next()?);
        let home = parts.nth(1).unwrap_or("");
        Some(Passwd { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

/// Name, number and members of each group.
fn group(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut parts = line.split(':');
        let (name, gid) = (parts.next()?, parts.nth(1)?);
        Some((name, gid.parse().ok()?, parts.next().unwrap_or("")))
    })
}

/// Finds out the numbers. An error if the image names a user or group that is not in its files.
pub fn resolve(root: &InRoot, wanted: &Wanted) -> Result<Identity, Error> {
    let users = root.read("etc/passwd", MAX_FILE).unwrap_or_default();
    let groups = root.read("etc/group", MAX_FILE).unwrap_or_default();
    resolve_in(&users, &groups, wanted)
}

fn resolve_in(users: &str, groups: &str, wanted: &Wanted) -> Result<Identity, Error> {
    let (user, named_group) = match wanted.image.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (wanted.image, None),
    };
    let entry = match (wanted.uid, user) {
        (Some(uid), _) => passwd(users).find(|p| p.uid == uid),
        (None, "") => passwd(users).find(|p| p.uid == 0),
        (None, user) => passwd(users).find(|p| p.name == user).or_else(|| {
            let uid = user.parse::<u32>().ok()?;
            passwd(users).find(|p| p.uid == uid)
        }),
    };
    let uid = match (wanted.uid, &entry, user) {
        (Some(uid), ..) => uid,
        (None, Some(entry), _) => entry.uid,
        (None, None, "") => 0,
        (None, None, user) => user.parse().map_err(|_| {
            Error::Invalid(format!("unable to find user {user}: no matching entries in passwd file"))
        })?,
    };
    // The image's group belongs to the image's user.
    let named_group = named_group.filter(|_| wanted.uid.is_none());
    let gid = match (wanted.gid, named_group) {
        (Some(gid), _) => gid,
        (None, None) => entry.as_ref().map_or(0, |e| e.gid),
        (None, Some(name)) => match group(groups).find(|(n, ..)| *n == name) {
            Some((_, gid, _)) => gid,
            None => name.parse().map_err(|_| {
                Error::Invalid(format!("unable to find group {name}: no matching entries in group file"))
            })?,
        },
    };
    let mut all = vec![gid];
    if let Some(entry) = entry.as_ref().filter(|_| !wanted.strict) {
        let member = |members: &str| members.split(',').any(|m| m == entry.name);
        all.extend(group(groups).filter(|(_, _, m)| member(m)).map(|(_, gid, _)| gid));
    }
    all.extend(wanted.groups);
    all.sort_unstable();
    all.dedup();
    let home = entry.map(|e| e.home).filter(|h| !h.is_empty()).unwrap_or("/");
    Ok(Identity { uid, gid, groups: all, home: home.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:Web:/var/www:/bin/false\nbroken\n";
    const GROUPS: &str = "root:x:0:\nlogs:x:4:web,other\nstaff:x:50:webmaster\n";

    fn find(wanted: Wanted) -> Identity {
        resolve_in(USERS, GROUPS, &wanted).unwrap()
    }

    #[test]
    fn names_numbers_and_nothing() {
        let web = find(Wanted { image: "web", ..Default::default() });
        assert_eq!((web.uid, web.gid, web.groups, web.home.as_str()), (33, 44, vec![4, 44], "/var/www"));
        let root = find(Wanted::default());
        assert_eq!((root.uid, root.gid, root.home.as_str()), (0, 0, "/root"));
        let number = find(Wanted { image: "1000:50", ..Default::default() });
        assert_eq!((number.uid, number.gid, number.home.as_str()), (1000, 50, "/"));
        let group = find(Wanted { image: "33:staff", ..Default::default() });
        assert_eq!((group.uid, group.gid), (33, 50));
    }

    #[test]
    fn the_specification_wins() {
        let wanted = Wanted { image: "web:staff", uid: Some(7), groups: &[9, 4], ..Default::default() };
        assert_eq!(find(wanted), Identity { uid: 7, gid: 0, groups: vec![0, 4, 9], home: "/".into() });
        let wanted = Wanted { uid: Some(33), gid: Some(1), ..Default::default() };
        assert_eq!(find(wanted).groups, [1, 4]);
    }

    #[test]
    fn strict_groups_are_those_asked_for() {
        let wanted = Wanted { image: "web", groups: &[9], strict: true, ..Default::default() };
        assert_eq!(find(wanted).groups, [9, 44]);
    }

    #[test]
    fn unknown_names_are_errors() {
        let wanted = Wanted { image: "nobody", ..Default::default() };
        let error = resolve_in(USERS, GROUPS, &wanted).unwrap_err().to_string();
        assert!(error.contains("unable to find user nobody"), "{error}");
        let wanted = Wanted { image: "web:x", ..Default::default() };
        assert!(resolve_in(USERS, GROUPS, &wanted).is_err());
        assert_eq!(resolve_in("", "", &Wanted::default()).unwrap().home, "/");
    }
}
