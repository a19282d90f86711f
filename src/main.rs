//! The program `weir`.

mod load;

fn main() {}
