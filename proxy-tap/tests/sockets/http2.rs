//! HTTP/2 written by hand, on either side of a proxy: what no good library would send.

mod flood;
mod frames;
mod malformed;
mod protocol;
mod slow;
mod upstream;
