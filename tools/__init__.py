"""Programs of the build: run as `python -m tools.NAME` by build.mk, never shipped."""
