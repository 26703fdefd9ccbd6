"Files that are written whole, and other things that know no audio"
