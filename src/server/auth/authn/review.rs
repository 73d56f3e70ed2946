//! TokenReview and SelfSubjectReview.
