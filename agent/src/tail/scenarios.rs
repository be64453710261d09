//! The whole log path against a collector that keeps the rules: real files, real rotation, real
//! HTTP on loopback. Every line must arrive once and in order.

mod away;
mod content;
mod faults;
mod files;
mod fixtures;
mod lanes;
mod meaning;
mod volumes;
mod world;
