"""The programs that benchmarks run beside ours."""
