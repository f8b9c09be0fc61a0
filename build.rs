//! Links the command so that it starts quickly. The library, and what is built on it, is linked as ever.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|set| set == value);
    let gnu = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if let Some(out) = std::env::var_os("OUT_DIR").filter(|_| gnu).map(PathBuf::from) {
        // The unwinder, which the standard library takes from a shared library, is linked in. Loading that one takes a
        // tenth of a start: it asks the processor for what it can do, which is slow in virtual machines.
        std::fs::write(out.join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n")?;
        println!("cargo:rustc-link-arg-bins=-L{}", out.display());
    }
    Ok(())
}
