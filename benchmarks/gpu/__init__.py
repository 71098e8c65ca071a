"""Team and one model alone at full size on a GPU, within a time limit: `make bench-gpu`.

    PYTHONPATH=src python -m benchmarks.gpu --minutes 9 --out gpu.jsonl

Three candidates of the 8B Llama's and the 7B OLMo 3's shape, with random weights in bfloat16; on a
device with less memory they have fewer layers. Without a GPU the models have 13M parameters. A
ratio is of wall-clock time. Every row is in the file as soon as it is measured. This needs the
repository and torch and transformers with their dependencies; nothing is installed or fetched.
"""
