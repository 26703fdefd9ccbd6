"The command `slicer`"
