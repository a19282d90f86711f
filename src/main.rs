//! The program `weir`.

mod demo;
mod load;

fn main() {}
