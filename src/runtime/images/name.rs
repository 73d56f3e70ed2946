//! Names of images, completed as Docker does: `nginx` is `docker.io/library/nginx:latest`.

use oci_spec::distribution::Reference;

use super::error::Error;

/// Reads a name with an optional tag and digest. Without either the tag is `latest`.
pub(super) fn parse(name: &str) -> Result<Reference, Error> {
    if let Ok(reference) = name.parse::<Reference>() {
        return Ok(reference);
    }
    let reason = match name.to_lowercase().parse::<Reference>() {
        Ok(lower) if lower.digest().is_none() => {
            let start = name.split_once('/').map_or("", |(host, _)| host);
            let is_host = start.contains(['.', ':']) || start == "localhost";
            let path = if is_host { name.split_once('/').map_or(name, |(_, path)| path) } else { name };
            let path = path.split(':').next().unwrap_or_default();
            let library = if is_host || path.contains('/') { "" } else { "library/" };
            format!(": repository name ({library}{path}) must be lowercase")
        }
        _ => String::new(),
    };
    Err(Error::InvalidName { name: name.to_owned(), reason })
}

/// The full name with its tag, if it has one and no digest: a digest says more than a tag.
pub(super) fn tagged(reference: &Reference) -> Option<String> {
    let tag = reference.tag().filter(|_| reference.digest().is_none())?;
    Some(format!("{}/{}:{tag}", reference.registry(), reference.repository()))
}

/// The full name with a digest.
pub(super) fn with_digest(reference: &Reference, digest: &str) -> String {
    format!("{}/{}@{digest}", reference.registry(), reference.repository())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        for (name, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.24", "docker.io/library/nginx:1.24"),
            ("rancher/k3s:v1", "docker.io/rancher/k3s:v1"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("ghcr.io/a/b", "ghcr.io/a/b:latest"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
        ] {
            assert_eq!(parse(name).ok().and_then(|r| tagged(&r)).as_deref(), Some(full), "{name}");
        }
    }

    #[test]
    fn a_digest_takes_the_tags_place() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for name in [format!("nginx@{digest}"), format!("nginx:1@{digest}")] {
            let reference = parse(&name).unwrap();
            assert_eq!((tagged(&reference), reference.digest()), (None, Some(&*digest)));
            assert_eq!(with_digest(&reference, &digest), format!("docker.io/library/nginx@{digest}"));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in ["", "UPPER", "a b", "-x", "x:y:z/", "nginx@sha256:12"] {
            let error = parse(name).unwrap_err().to_string();
            assert!(error.starts_with("invalid reference format"), "{error}");
        }
        for (name, says) in [
            ("UPPER", ": repository name (library/UPPER) must be lowercase"),
            ("ghcr.io/Team/app:1", ": repository name (Team/app) must be lowercase"),
            ("a b", ""),
        ] {
            let error = parse(name).unwrap_err().to_string();
            assert_eq!(error, format!("invalid reference format{says}"));
        }
    }
}
