//! From a pod and a path to labels.
