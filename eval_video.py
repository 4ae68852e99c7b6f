#!/usr/bin/env python3
"""Compare video codecs: python eval_video.py --data FOLDER --codecs x264,x265,NAME --preset paper --output OUT."""

import sys

from vcodec.evaluation.main import main

if __name__ == "__main__":
    sys.exit(main())
