#!/usr/bin/env python3
"""Compare video codecs: python eval_video.py --data FOLDER --codecs x264,x265,NAME --preset paper --output OUT."""

import sys

from vcodec.evaluation.main import main
from vcodec.memory import keep_freed_memory

if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
