"""Models behind an OpenAI-compatible server: vLLM, llama.cpp, hosted ones."""
