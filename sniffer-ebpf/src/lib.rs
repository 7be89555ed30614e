//! What both sides of the kernel know: record layouts, map names, limits. The programs come with the capture on the
//! node's veths.
#![no_std]
