"""``python -m transcriptome_diffusion``, the same as the console script."""

from transcriptome_diffusion.cli import main

if __name__ == "__main__":
    main()
