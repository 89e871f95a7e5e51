//! `rollout socket-proxy` on a real engine: what it refuses, what it never tells, what it survives, and Traefik on it.

mod container;
mod fixture;
mod hostile;
mod overlay;
mod secrets;
