"""ggml's kernels and llama.cpp's engine, through ctypes on the library that ships in `xllamacpp`."""
