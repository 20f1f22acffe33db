//! What shows web pages to whoever sits at this machine.

use super::layer::environment_variable;

/// Programs that take an address, the best first: those that `BROWSER` names, else the desktop's own where there is one.
pub fn browsers() -> Vec<String> {
    if let Some(named) = environment_variable("BROWSER") {
        // What wants the address in the middle of a command is a shell's to run.
        let plain = |program: &&str| !program.is_empty() && !program.contains(['%', ' ']);
        return named.split(':').filter(plain).map(str::to_owned).collect();
    }
    let has_desktop = ["WAYLAND_DISPLAY", "DISPLAY"].iter().any(|name| environment_variable(name).is_some());
    let opener = if cfg!(target_os = "macos") { Some("open") } else { has_desktop.then_some("xdg-open") };
    opener.map(str::to_owned).into_iter().collect()
}
