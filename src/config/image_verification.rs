//! Which images on a node are for pods that have shown no pull secret for them: kubelet's
//! `imagePullCredentialsVerificationPolicy`
//! (<https://kubernetes.io/docs/concepts/containers/images/#ensureimagepullcredentialverification>).

/// The policy, by upstream's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageVerification {
    /// All.
    NeverVerify,
    /// Those the node has not pulled for a pod. The default.
    NeverVerifyPreloadedImages,
    /// Those of this list: repositories without tag, or prefixes that end in `/`.
    NeverVerifyAllowlistedImages(Vec<String>),
    /// None.
    AlwaysVerify,
}

impl ImageVerification {
    /// The policy of that name; the list is empty.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "NeverVerify" => Self::NeverVerify,
            "NeverVerifyPreloadedImages" => Self::NeverVerifyPreloadedImages,
            "NeverVerifyAllowlistedImages" => Self::NeverVerifyAllowlistedImages(Vec::new()),
            "AlwaysVerify" => Self::AlwaysVerify,
            _ => return None,
        })
    }

    /// Whether a pod has to show credentials for an image of that repository, given by its full name.
    pub fn is_required(&self, repository: &str, pulled_by_node: bool) -> bool {
        match self {
            Self::NeverVerify => false,
            Self::NeverVerifyPreloadedImages => pulled_by_node,
            Self::AlwaysVerify => true,
            Self::NeverVerifyAllowlistedImages(list) => !list
                .iter()
                .any(|p| p == repository || p.ends_with('/') && repository.starts_with(p.as_str())),
        }
    }
}

/// An entry of the list: a full name without tag and digest, or all below a path, as in `ghcr.io/team/*`.
pub(super) fn pattern(text: &str) -> Result<String, String> {
    let (path, is_prefix) = match text.strip_suffix('*') {
        Some(path) if path.ends_with('/') => (path, true),
        _ => (text, false),
    };
    let name = path.strip_suffix('/').filter(|_| is_prefix).unwrap_or(path);
    match name {
        "" => Err(format!("{text:?} is too short: at least a registry's host name is required")),
        _ if name.contains('*') => Err(format!(
            "{text:?} is not a valid wildcard pattern: only patterns ending with '/*' are allowed"
        )),
        _ if is_prefix => Ok(path.to_owned()),
        _ if name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':')) => {
            Err(format!("{text:?}: neither tag nor digest is accepted in an image reference"))
        }
        _ => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_names_and_prefixes() {
        let list = ["r.example/app", "ghcr.io/team/*", "localhost:5000/*"].map(|p| pattern(p).expect(p));
        let policy = ImageVerification::NeverVerifyAllowlistedImages(list.to_vec());
        for (image, required) in [
            ("r.example/app", false),
            ("r.example/app2", true),
            ("r.example/app/x", true),
            ("ghcr.io/team/a/b", false),
            ("ghcr.io/teamwork/a", true),
            ("localhost:5000/x", false),
        ] {
            assert_eq!(policy.is_required(image, true), required, "{image}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for (text, says) in [
            ("", "too short"),
            ("/*", "too short"),
            ("a*", "wildcard"),
            ("a/*/b", "wildcard"),
            ("*", "wildcard"),
            ("a:1", "neither tag nor digest"),
            ("r.example:5000/a:1", "neither tag nor digest"),
            ("a@sha256:0", "neither tag nor digest"),
        ] {
            let error = pattern(text).expect_err(text);
            assert!(error.contains(says), "{error}");
        }
    }
}
