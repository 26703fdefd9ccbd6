"Everything about the package stands in settings.ini; this file hands it to setuptools"
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup, find_packages

here = Path(__file__).parent
ini = ConfigParser(delimiters=['='])
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    author=cfg['author'], license=cfg['license'], license_files=['LICENSE'],
    classifiers=cfg['classifiers'].split('; '), project_urls=dict(o.split('=', 1) for o in cfg['urls'].split()),
    long_description=(here/'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    packages=find_packages(include=[f"{cfg['lib_name']}*"]), package_data={cfg['lib_name']:['encoders/*/*','sounds/*.csv','sounds/*/*.ogg','interpret/templates/*']},
    python_requires=f">={cfg['min_python']}", install_requires=cfg['requirements'].split(),
    extras_require={o:cfg[f'{o}_requirements'].split() for o in ('dev','widgets','onnx','av','field','shards','site','fastaudio')},
    entry_points=dict(console_scripts=cfg['console_scripts'].split(), nbdev=[f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"]))
