//! What is kept on disk: prompt files, written atomically. It must not know how prompts are made.
