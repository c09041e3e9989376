//! measure
fn main() {}
