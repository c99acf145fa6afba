package ffmpeg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	livestream "github.com/livestream-pro/livestream-pro"
)
