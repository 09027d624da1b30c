//! The `acopio` command. All of it is in the library, so that one compilation serves both.

fn main() -> std::process::ExitCode {
    acopio::command_line()
}
