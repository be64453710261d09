//! The collector as a library over real files and real HTTP on loopback.

mod agent;
mod doors;
mod harness;
mod restart;
