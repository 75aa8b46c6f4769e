#![doc = include_str!("architecture.md")]

pub mod admin;
pub mod auth;
pub mod cli;
pub mod config;
pub mod demo;
pub mod explain;
pub mod limits;
pub mod openapi;
pub mod pipeline;
pub mod policy;
pub mod ports;
pub mod proxy;
pub mod redis;
pub mod telemetry;
pub mod tls;
pub mod trace;
