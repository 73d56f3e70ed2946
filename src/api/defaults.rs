//! Defaults of the built-in kinds, as upstream's `pkg/apis/*/v1/defaults.go` applies them.
