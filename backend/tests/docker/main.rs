//! The Docker backend against a real engine. Without one, every test here fails and says so.

mod deaths;
mod engine;
mod images;
mod lives;
mod registry;
mod support;
